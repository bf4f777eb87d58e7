# A master, three members of etcd, four hosts of storage and three of containers.
# The host keys are made up: put in what ssh-keyscan, checked on the host's console, says.
cluster = "large"

nodes = {
  salt = {
    address  = "192.0.2.10"
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGNHmtaaCQslgnfsj7pvmUGaL/skiYFRBlfJRMzRFI6X"
    roles    = ["master"]
  }
  etcd1 = {
    address  = "192.0.2.11"
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE3BXNyI7oT0VDYhXbPVZEGmKBfu8luW9CDjfbwUz/Ci"
    roles    = ["etcd"]
  }
  etcd2 = {
    address  = "192.0.2.12"
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJwHVj8cHhA2zhIKNm36OPCaRjt6m71khYJYfT71HgSq"
    roles    = ["etcd"]
  }
  etcd3 = {
    address  = "192.0.2.13"
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKwszvKf2GH8NFpueAZYTMLfH3jWyBk3c45W1vSsJ5//"
    roles    = ["etcd"]
  }
  ceph1 = {
    address  = "192.0.2.14"
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIaNd8YhJNIqbVjuw7+BSOtYHq2PaBSSiI+beytZcKu+"
    roles    = ["ceph"]
  }
  ceph2 = {
    address  = "192.0.2.15"
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL/IkA7cRpi1KHXVDxrkSOqmosKW5nnmInV/o8VMH1e6"
    roles    = ["ceph"]
  }
  ceph3 = {
    address  = "192.0.2.16"
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG8Cb+WJOV8ofGcKuYJNLIWe/JG4l4rqlxTHpZqdks2T"
    roles    = ["ceph"]
  }
  ceph4 = {
    address  = "192.0.2.17"
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP9ztJiN+tIKYwE3ASocl6okoG8yw+xwXWMfVeVmo/m1"
    roles    = ["ceph"]
  }
  docker1 = {
    address  = "192.0.2.18"
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL9DOanPtNDpgA2rhzuZBkWJZ7QTL2Oeb6YnGi8zL7mf"
    roles    = ["docker"]
  }
  docker2 = {
    address  = "192.0.2.19"
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDkVjGeiTZgP+U2G9tObijiW9qkCwiA1vah7Z1aMOFsm"
    roles    = ["docker"]
  }
  docker3 = {
    address  = "192.0.2.20"
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4Zh88HrECNxR0oA8go0y1O/qLvRuQmpg8UOoREt/Xt"
    roles    = ["docker"]
  }
}
