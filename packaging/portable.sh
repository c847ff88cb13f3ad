#!/bin/sh
# portable.sh FILE…: do these programs and libraries run where the package is meant to run, and does a package (FILE.deb)
# install there? The oldest system counts: Ubuntu 22.04, with glibc 2.35 and the libstdc++ and libgcc of GCC 12 (12.3). What is
# asked of them is compared by symbol version and by the package's dependencies; nothing is run. Debian 12 has glibc 2.36.
set -eu
# Of Ubuntu 22.04 (jammy): packages.ubuntu.com/jammy/libc6, libstdc++6, libgcc-s1, systemd.
glibc=2.35 glibcxx=3.4.30 cxxabi=1.3.13 gcc=12.0.0
packages="libc6=2.35 libstdc++6=12.3.0 libgcc-s1=12.3.0 systemd=249.11 zlib1g=1.2.11"

# above A B: whether version A is later than B.
above() { [ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | tail -n 1)" = "$1" ]; }
bad=0
complain() {
    echo "$*" >&2
    bad=1
}

for file in "$@"; do
    case "$file" in
    *.deb)
        depends=$(dpkg-deb --field "$file" Depends)
        # "a (>= 1), b | c (>= 2)": each line one name and the version that it must have.
        wanted=$(echo "$depends" | tr ',|' '\n\n' | sed -n 's/^ *\([^ (]*\) *(>= *\([^)]*\)).*/\1 \2/p; s/^ *\([^ (]*\) *$/\1 0/p')
        while read -r name version; do
            there=$(echo "$packages" | tr ' ' '\n' | sed -n "s/^$name=//p")
            if [ -z "$there" ]; then
                complain "$file depends on $name: whether Ubuntu 22.04 has it is not known here"
            elif above "$version" "$there"; then
                complain "$file depends on $name $version, and Ubuntu 22.04 has $there"
            fi
        done <<LIST
$wanted
LIST
        ;;
    *)
        symbols=$(objdump -T "$file")
        for limit in GLIBC=$glibc GLIBCXX=$glibcxx CXXABI=$cxxabi GCC=$gcc; do
            family=${limit%=*}
            newest=$(echo "$symbols" | sed -n "s/.*[( ]${family}_\\([0-9][0-9.]*\\).*/\\1/p" | sort -Vu | tail -n 1)
            [ -n "$newest" ] || continue
            if above "$newest" "${limit#*=}"; then
                complain "$file needs ${family}_$newest, and Ubuntu 22.04 has ${limit#*=}:"
                echo "$symbols" | grep -F "${family}_$newest" | sed 's/^/  /' | head -n 5 >&2
            fi
        done
        ;;
    esac
done
if [ "$bad" != 0 ]; then
    echo "A package for everybody is built on Debian 12 or Ubuntu 22.04." >&2
    exit 1
fi
