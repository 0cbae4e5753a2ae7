import java.net.URI;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;

/** Reads the classes of Java's own modules: their bytes, and an index of the names in them. */
public class Workload {
    record Place(String file, int offset) {}

    static final Map<String, byte[]> classes = new TreeMap<>();
    static final Map<String, List<Place>> names = new HashMap<>();

    public static void main(String[] arguments) throws Exception {
        long limit = Long.parseLong(arguments[0]);
        Path root = FileSystems.getFileSystem(URI.create("jrt:/")).getPath("/modules/java.base");
        long read = 0;
        List<Path> found;
        try (Stream<Path> files = Files.walk(root)) {
            found = files.filter(path -> path.toString().endsWith(".class")).sorted().toList();
        }
        for (Path path : found) {
            byte[] content = Files.readAllBytes(path);
            read += content.length;
            if (read > limit) break;
            classes.put(path.toString(), content);
            index(path.toString(), content);
        }
        System.out.println("ready");
        System.out.flush();
        System.in.read();
    }

    /** Every run of letters in the class file that is long enough to be a name. */
    static void index(String file, byte[] content) {
        int start = 0;
        for (int at = 0; at <= content.length; at++) {
            boolean letter = at < content.length && Character.isJavaIdentifierPart(content[at])
                && content[at] > 32;
            if (letter) continue;
            if (at - start >= 6) {
                String name = new String(content, start, at - start);
                names.computeIfAbsent(name, any -> new ArrayList<>()).add(new Place(file, start));
            }
            start = at + 1;
        }
    }
}
