# Reads Perl's own modules: lines, words with where they are, packages with their functions.
use strict;
use warnings;
use File::Find;

my ($limit) = @ARGV;    # bytes of source
my (%lines, %where, %packages);
my $read = 0;
my %seen;
find({
    no_chdir => 1,
    follow_skip => 2,
    wanted => sub {
        return if !/\.p[ml]$/ || !-f || $read > $limit || $seen{$File::Find::name}++;
        open my $file, '<', $_ or return;
        my @text = <$file>;
        my $package = 'main';
        for my $number (0 .. $#text) {
            my $line = $text[$number];
            $read += length $line;
            $package = $1 if $line =~ /^package\s+([\w:]+)/;
            push @{ $packages{$package}{functions} }, { name => $1, line => $number, file => $_ }
                if $line =~ /^\s*sub\s+(\w+)/;
            $where{$_}++ for $line =~ /(\w{4,})/g;
        }
        $lines{$File::Find::name} = \@text;
    },
}, grep { $_ ne q(.) && -d } @INC);
$| = 1;
print "ready\n";
<STDIN>;
