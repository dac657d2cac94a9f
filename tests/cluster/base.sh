#!/usr/bin/env bash
# A base image for the Dockerfile out of what this machine has, for where no registry can be reached: base.sh TAG [LABEL]
#
# From a Python of pyenv (no network), or else from Debian's packages (whatever sources apt has here).
# Either way: a Python with pip and venv, the C library, a shell, the few tools that the Dockerfile uses, and the
# certificate authorities that this machine trusts.
set -euo pipefail
tag=${1:?usage: base.sh TAG [LABEL]}
label=${2:-local=1}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
tools="sh cat ls mkdir rm cp mv ln chmod chown sleep echo id env tar true date touch tail head grep uname"
# Not linked by Python itself: name look-ups, and what wheels were linked with on older systems.
extra="libnss_dns.so.2 libnss_files.so.2 libgcc_s.so.1 libstdc++.so.6 librt.so.1 libpthread.so.0 libdl.so.2 libutil.so.1 libm.so.6 libresolv.so.2 libanl.so.1"

python_of_pyenv() {
    local version
    command -v pyenv >/dev/null || return 1
    for version in $(pyenv versions --bare | grep -E '^3\.(12|13|11)\.[0-9]+$' | sort -t. -k2,2n -k3,3n | sed -n '/^3\.12\./p;$p'); do
        pyenv prefix "$version"
        return
    done
    return 1
}

libraries() {
    {
        for name in $tools; do ldd "$(readlink -f "$(command -v "$name" || true)")" 2>/dev/null || true; done
        ldd "$1/bin/python3"
        find "$1"/lib/python3*/lib-dynload -name '*.so' ! -name '_tkinter*' ! -name '_test*' -exec ldd {} + 2>/dev/null || true
    } | awk '/=> \//{print $3} /^[ \t]*\/lib/{print $1}'
    ldconfig -p | awk -v wanted=" $extra " 'index(wanted, " " $1 " ") && !seen[$1]++ {print $NF}'
}

from_pyenv() {
    local python=$1 name library pip
    mkdir -p "$root"/{etc/ssl/certs,tmp,root,usr/local,usr/bin,proc,sys,dev,run,var/tmp}
    chmod 1777 "$root/tmp" "$root/var/tmp"
    ln -s usr/bin "$root/bin"
    tar -C "$python" --exclude='lib/python*/test' --exclude='*/__pycache__' --exclude='*.a' --exclude='lib/python*/idlelib' \
        --exclude='lib/python*/tkinter' --exclude='lib/python*/site-packages/*' --exclude='lib/python*/config-*' \
        -cf - bin lib | tar -C "$root/usr/local" -xf -
    find "$root/usr/local/bin" -type f ! -name 'python3.*' -delete
    for pip in "$python"/lib/python3*/site-packages/pip*; do
        cp -a "$pip" "$root/usr/local/${pip#"$python"/}"
    done
    for name in $tools; do cp -L "$(type -P "$name")" "$root/usr/bin/$name"; done
    libraries "$python" | sort -u | grep -v "^$python" | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
    mkdir -p "$root/var/cache/ldconfig"
    echo /usr/local/lib >"$root/etc/ld.so.conf"
    ldconfig -r "$root"
    printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
}

from_debian() {
    local suite sources=$root/sources format='deb $(REPO_URI) $(RELEASE) $(COMPONENT)'
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    command -v mmdebstrap >/dev/null || { apt-get update -q && apt-get install -y -q --no-install-recommends mmdebstrap; }
    apt-get indextargets --format "$format" 'Created-By: Packages' >"$sources"
    [ -s "$sources" ] || { apt-get update -q && apt-get indextargets --format "$format" 'Created-By: Packages' >"$sources"; }
    mmdebstrap -q --mode=root --variant=extract --include=base-files,dash,coreutils,tar,libc-bin,grep,sed,python3,python3-venv,python3-pip-whl,python3-setuptools-whl,ca-certificates,netbase,libgcc-s1,libstdc++6 \
        "$suite" - - <"$sources" | tar -C "$root" -xf -
    rm -rf "$sources" "$root/etc/apt"
    mkdir -p "$root/etc/ssl/certs"
}

if python=$(python_of_pyenv); then from_pyenv "$python"; else from_debian; fi
printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\n' >"$root/etc/group"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
tar -C "$root" -c . | docker import -c 'ENV PATH=/usr/local/bin:/usr/bin:/bin' -c 'ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt' -c 'CMD ["python3"]' -c "LABEL $label" - "$tag" >/dev/null
