# meet.sh NODE MASTER <public key of the master: this host's minion, which trusts that master alone.
node=$1 master=$2
cat >/etc/salt/pki/minion/minion_master.pub
echo "$node" >/etc/salt/minion_id
cat >/etc/salt/minion.d/libstorage.conf <<EOF
# Written by Terraform.
id: $node
master: "$master"
# neither a slow name server nor a hung block device holds up its start
enable_fqdns_grains: False
disable_grains: [lvm]
EOF
case $master in *:*) echo "ipv6: True" >>/etc/salt/minion.d/libstorage.conf ;; esac
systemctl enable --quiet salt-minion
# it is started with its grains, in the next step
