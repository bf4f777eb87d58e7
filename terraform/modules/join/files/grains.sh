# grains.sh JSON: the grains that Terraform gives this host's minion, which is (re)started with them.
printf '# Written by Terraform.\ngrains: %s\n' "$1" >/etc/salt/minion.d/libstorage-grains.conf
systemctl stop salt-minion # to the end: what answers from now on has these grains
systemctl start --no-block salt-minion
