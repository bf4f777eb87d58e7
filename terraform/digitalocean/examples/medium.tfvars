# Three droplets that share all work: the smallest cluster that outlives the loss of any host but the master. About
# 174 USD a month: 3 x 48 for droplets, 3 x 10 for disks (prices change).
cluster       = "medium"
region        = "fra1"
ssh           = { key_file = "~/.ssh/id_ed25519" }
allowed_cidrs = ["198.51.100.0/24"] # where the administrators are

nodes = {
  one   = { roles = ["master", "etcd", "ceph", "docker"], size = "s-4vcpu-8gb", data_disks = { osd = 100 } }
  two   = { roles = ["etcd", "ceph", "docker"], size = "s-4vcpu-8gb", data_disks = { osd = 100 } }
  three = { roles = ["etcd", "ceph", "docker"], size = "s-4vcpu-8gb", data_disks = { osd = 100 } }
}
