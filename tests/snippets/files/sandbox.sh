# Runs scripts in a sandbox one after the other, until its input ends. src/sandbox.rs writes the other side.
#
# Input: the length of a script in bytes, on a line, and the script. The first one prepares the sandbox. Each later one
# runs in a copy of the system that is thrown away with all that the script changed, so that none sees what another one
# left; only /run, /dev and what the kernel shows are the same for all. Output after each of the later ones: its exit
# status and the lengths of what follows, on a line; what it wrote; what it complained; and the file /srv/cib.xml.
set -u
copy='
mount -t tmpfs tmpfs /mnt && mkdir /mnt/upper /mnt/work /mnt/root && mount -a -T /run/bed/fstab && cd /mnt/root/srv || exit
chroot /mnt/root sh -c "cd /srv && exec sh -e /run/bed/script"
echo "$?" > /run/bed/status
[ ! -e cib.xml ] || mv cib.xml /run/bed/cib'
mkdir /run/bed && cd /run/bed || exit
echo 'overlay /mnt/root overlay lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work' > fstab
for directory in dev proc run sys; do echo "/$directory /mnt/root/$directory none rbind" >> fstab; done
read -r length && head -c "$length" > script && sh -e script < /dev/null >&2 || exit
while read -r length; do
    head -c "$length" > script
    : > status
    : > cib
    unshare --mount sh -c "$copy" > out 2> err < /dev/null
    # Without a status it is the copy that could not be made. The end of this is how it is told from a script that
    # failed.
    read -r status < status || { cat err >&2; exit 1; }
    # Their sizes, on one line.
    echo "$status" $(stat -c %s out err cib)
    cat out err cib
done
