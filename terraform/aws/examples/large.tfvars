# A master, three members of etcd, four hosts of storage with two disks each and three of containers, and the archive's
# bucket. About 2,150 USD a month, 760 of which for eight disks of 1 TB (eu-central-1, on demand; prices change).
cluster       = "large"
region        = "eu-central-1"
ssh           = { key_file = "~/.ssh/id_ed25519" }
allowed_cidrs = ["198.51.100.0/24", "203.0.113.7/32"] # where the administrators are
archive       = { bucket = "large-archive-example", pgp_key = "keybase:example" }

nodes = {
  salt    = { roles = ["master"], zone = "a" }
  etcd1   = { roles = ["etcd"], zone = "a" }
  etcd2   = { roles = ["etcd"], zone = "b" }
  etcd3   = { roles = ["etcd"], zone = "c" }
  ceph1   = { roles = ["ceph"], size = "m6i.xlarge", data_disks = { one = 1000, two = 1000 }, zone = "a" }
  ceph2   = { roles = ["ceph"], size = "m6i.xlarge", data_disks = { one = 1000, two = 1000 }, zone = "b" }
  ceph3   = { roles = ["ceph"], size = "m6i.xlarge", data_disks = { one = 1000, two = 1000 }, zone = "c" }
  ceph4   = { roles = ["ceph"], size = "m6i.xlarge", data_disks = { one = 1000, two = 1000 }, zone = "a" }
  docker1 = { roles = ["docker"], size = "m6i.xlarge", zone = "a" }
  docker2 = { roles = ["docker"], size = "m6i.xlarge", zone = "b" }
  docker3 = { roles = ["docker"], size = "m6i.xlarge", zone = "c" }
}
