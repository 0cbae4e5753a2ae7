// A large translation unit: most headers there are, and templates made from their parts.
#include <algorithm>
#include <any>
#include <array>
#include <bitset>
#include <chrono>
#include <complex>
#include <deque>
#include <filesystem>
#include <functional>
#include <future>
#include <iomanip>
#include <iostream>
#include <iterator>
#include <list>
#include <locale>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <queue>
#include <random>
#include <regex>
#include <set>
#include <sstream>
#include <stack>
#include <string>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <variant>
#include <vector>

// repeated
struct RecordNUMBER {
    std::string name; int sizeNUMBER; std::vector<std::pair<int, std::string>> parts;
    bool operator<(const RecordNUMBER& other) const { return name < other.name; }
};
class StoreNUMBER {
    std::map<std::string, RecordNUMBER> by_name;
    std::unordered_map<int, std::shared_ptr<RecordNUMBER>> by_number;
    std::variant<int, double, RecordNUMBER> last;
public:
    void add(RecordNUMBER record) {
        by_number[record.sizeNUMBER % (NUMBER + 7)] = std::make_shared<RecordNUMBER>(record);
        by_name.emplace(record.name, record);
        last = std::move(record);
    }
    std::vector<RecordNUMBER> sorted() const {
        std::vector<RecordNUMBER> all;
        for (const auto& [name, record] : by_name) all.push_back(record);
        std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
            return a.sizeNUMBER != b.sizeNUMBER ? a.sizeNUMBER < b.sizeNUMBER : a < b; });
        return all;
    }
    std::string report() const {
        std::ostringstream out;
        for (const auto& record : sorted())
            if (std::regex_search(record.name, std::regex("^[a-z]+")))
                out << std::setw(NUMBER % 30 + 3) << record.name << record.parts.size() << "\n";
        return out.str();
    }
};
