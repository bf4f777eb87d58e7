# Three instances in three zones that share all work: the smallest cluster that outlives the loss of any zone but the
# master's. About 260 USD a month: 3 x 86 (70 for the instance, 12 for its disks, 4 for its address; traffic between
# zones comes on top; eu-central-1, on demand; prices change).
cluster       = "medium"
region        = "eu-central-1"
ssh           = { key_file = "~/.ssh/id_ed25519" }
allowed_cidrs = ["198.51.100.0/24"] # where the administrators are

nodes = {
  one   = { roles = ["master", "etcd", "ceph", "docker"], size = "t3.large", data_disks = { osd = 100 }, zone = "a" }
  two   = { roles = ["etcd", "ceph", "docker"], size = "t3.large", data_disks = { osd = 100 }, zone = "b" }
  three = { roles = ["etcd", "ceph", "docker"], size = "t3.large", data_disks = { osd = 100 }, zone = "c" }
}
