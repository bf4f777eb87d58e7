# A master, three members of etcd, four hosts of storage with two disks each and three of containers, and the archive's
# bucket. About 1,430 USD a month with the bucket, 800 of which for eight disks of 1 TB (prices change).
cluster       = "large"
region        = "fra1"
ssh           = { key_file = "~/.ssh/id_ed25519" }
allowed_cidrs = ["198.51.100.0/24", "203.0.113.7/32"] # where the administrators are
archive       = { bucket = "large-archive-example" }

nodes = {
  salt    = { roles = ["master"] }
  etcd1   = { roles = ["etcd"] }
  etcd2   = { roles = ["etcd"] }
  etcd3   = { roles = ["etcd"] }
  ceph1   = { roles = ["ceph"], size = "s-8vcpu-16gb", data_disks = { one = 1000, two = 1000 } }
  ceph2   = { roles = ["ceph"], size = "s-8vcpu-16gb", data_disks = { one = 1000, two = 1000 } }
  ceph3   = { roles = ["ceph"], size = "s-8vcpu-16gb", data_disks = { one = 1000, two = 1000 } }
  ceph4   = { roles = ["ceph"], size = "s-8vcpu-16gb", data_disks = { one = 1000, two = 1000 } }
  docker1 = { roles = ["docker"], size = "s-4vcpu-8gb" }
  docker2 = { roles = ["docker"], size = "s-4vcpu-8gb" }
  docker3 = { roles = ["docker"], size = "s-4vcpu-8gb" }
}
