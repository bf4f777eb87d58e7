variable "cluster" {
  description = "The cluster's name: lower-case letters, digits and hyphens, at most 32 characters, beginning with a letter."
  type        = string
  nullable    = false
}

variable "region" {
  description = "The region of all hosts and disks, like eu-central-1."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "There is no region \"${var.region}\"; AWS names them like eu-central-1."
  }
}

variable "nodes" {
  description = <<-EOT
    The hosts by name, which becomes the minion id. roles: of master (exactly one node), etcd (1, 3 or 5 nodes), ceph,
    docker. size: the instance's type. root_disk: GB of the disk that it boots from and that goes with it. data_disks:
    volumes of so many GB by a short name; they outlive the instance. zone: one of var.zones, by default the first; a
    node's data disks are there too, so it stays as it is. instance: false keeps a node's data disks alone.
  EOT
  type = map(object({
    roles      = optional(list(string), [])
    size       = optional(string, "t3.medium")
    root_disk  = optional(number, 20)
    data_disks = optional(map(number), {})
    zone       = optional(string)
    instance   = optional(bool, true)
  }))
  nullable = false

  validation {
    condition     = alltrue([for node in values(var.nodes) : can(regex("^[a-z][a-z0-9-]*\\.[a-z0-9-]+$", node.size))])
    error_message = "A size is no instance type: ${join(", ", [for name, node in var.nodes : "${node.size} (${name})" if !can(regex("^[a-z][a-z0-9-]*\\.[a-z0-9-]+$", node.size))])}; they are named like t3.medium."
  }

  validation {
    condition     = alltrue(flatten([for node in values(var.nodes) : [for disk in keys(node.data_disks) : can(regex("^[a-z][a-z0-9]{0,11}$", disk))]]))
    error_message = "A data disk's name is not valid: ${join(", ", flatten([for name, node in var.nodes : [for disk in keys(node.data_disks) : "${disk} (${name})" if !can(regex("^[a-z][a-z0-9]{0,11}$", disk))]]))}; it has 1 to 12 lower-case letters and digits and begins with a letter."
  }

  validation {
    condition     = alltrue(flatten([for node in values(var.nodes) : [for size in values(node.data_disks) : size >= 10 && size <= 16384 && floor(size) == size]]))
    error_message = "A data disk has a whole number of GB from 10 to 16384; see ${join(", ", flatten([for name, node in var.nodes : [for disk, size in node.data_disks : "${name}/${disk} (${size})" if size < 10 || size > 16384 || floor(size) != size]]))}."
  }

  validation {
    condition     = alltrue([for node in values(var.nodes) : node.root_disk >= 10 && node.root_disk <= 16384 && floor(node.root_disk) == node.root_disk])
    error_message = "A root disk has a whole number of GB from 10 to 16384; see ${join(", ", [for name, node in var.nodes : "${name} (${node.root_disk})" if node.root_disk < 10 || node.root_disk > 16384 || floor(node.root_disk) != node.root_disk])}."
  }

  validation {
    condition     = alltrue([for node in values(var.nodes) : length(node.data_disks) == length(distinct([for disk in keys(node.data_disks) : substr(disk, 0, 1)]))])
    error_message = "Two data disks of a node begin with the same letter, which names their device: ${join(", ", [for name, node in var.nodes : "${join(" ", keys(node.data_disks))} (${name})" if length(node.data_disks) != length(distinct([for disk in keys(node.data_disks) : substr(disk, 0, 1)]))])}."
  }

  validation {
    condition     = alltrue([for node in values(var.nodes) : node.zone == null ? true : contains(var.zones, node.zone)])
    error_message = "A zone is none of var.zones (${join(", ", var.zones)}): ${join(", ", [for name, node in var.nodes : "${node.zone} (${name})" if node.zone == null ? false : !contains(var.zones, node.zone)])}."
  }

  validation {
    condition     = alltrue([for zone in var.zones : length([for node in values(var.nodes) : node if node.instance && (node.zone == null ? var.zones[0] : node.zone) == zone]) <= 7])
    error_message = "A zone holds 7 nodes on hardware of their own, and more are in ${join(", ", [for zone in var.zones : zone if length([for node in values(var.nodes) : node if node.instance && (node.zone == null ? var.zones[0] : node.zone) == zone]) > 7])}; spread them over ${join(", ", var.zones)}."
  }
}

variable "zones" {
  description = "The letters of the region's availability zones in use, one subnet each. Add further ones at the end: their order numbers the subnets."
  type        = list(string)
  default     = ["a", "b", "c"]
  nullable    = false

  validation {
    condition     = length(var.zones) >= 1 && length(var.zones) <= 4 && length(distinct(var.zones)) == length(var.zones) && alltrue([for zone in var.zones : can(regex("^[a-z]$", zone))])
    error_message = "zones has 1 to 4 different letters, like [\"a\", \"b\"]; it is ${jsonencode(var.zones)}."
  }
}

variable "ssh" {
  description = <<-EOT
    How Terraform reaches the hosts. key_file: the private key's file on this machine; without it, the SSH agent's keys.
    public_key: its public key's line; by default what is in the file beside it, with the ending .pub. user: made at the
    first boot. The private key is read by ssh alone: it never enters plan or state.
  EOT
  type = object({
    key_file   = optional(string, "")
    public_key = optional(string)
    user       = optional(string, "terraform")
  })
  nullable = false

  validation {
    condition     = can(regex("^[a-z_][a-z0-9_-]*$", var.ssh.user)) && var.ssh.user != "root"
    error_message = "ssh.user is a user of the hosts' own, with lower-case letters, digits, hyphens and underscores only, and not root."
  }

  validation {
    condition     = var.ssh.key_file == "" ? true : fileexists(pathexpand(var.ssh.key_file))
    error_message = "There is no file ${var.ssh.key_file} on this machine; ssh.key_file names the private key whose public key the hosts get."
  }

  validation {
    condition     = can(regex("^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/=]+( [^\n]*)?\n?$", coalesce(var.ssh.public_key, try(file("${pathexpand(var.ssh.key_file)}.pub"), "none"))))
    error_message = "There is no public SSH key: give its line as ssh.public_key, or have it in the file ${var.ssh.key_file}.pub."
  }
}

variable "allowed_cidrs" {
  description = "The networks that may reach the hosts by SSH: where Terraform and the administrators are. Nothing else is open to the outside."
  type        = list(string)
  nullable    = false
}

variable "network" {
  description = "The private network of the hosts."
  type        = string
  default     = "10.42.0.0/20"
  nullable    = false
}

variable "image" {
  description = "What new instances boot: an AMI, which may have Salt below /opt/libstorage already; by default the newest Debian 12 of Debian's own. Instances that are there keep theirs."
  type        = string
  default     = null

  validation {
    condition     = var.image == null || can(regex("^ami-[0-9a-f]{8,17}$", var.image))
    error_message = "There is no image \"${coalesce(var.image, "none")}\"; an AMI is named like ami-0123456789abcdef0."
  }
}

variable "archive" {
  description = <<-EOT
    The S3 bucket of the archive: its name, unique in all of S3, and the public PGP key, in base64 or as keybase:NAME,
    that its access key's secret is sealed with. Without it there is none.
  EOT
  type = object({
    bucket  = string
    pgp_key = string
  })
  default = null

  validation {
    condition     = var.archive == null || can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.archive.bucket))
    error_message = "archive.bucket is no bucket's name: it has 3 to 63 lower-case letters, digits and hyphens, no hyphen at either end."
  }
}

variable "host_keys" {
  description = "Public SSH host keys by node, as the instance's console shows them, for hosts that must not be known by their first contact alone."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key in values(var.host_keys) : can(regex("^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/=]+( [^\n]*)?$", key))])
    error_message = "host_keys has what is no public SSH host key; give the line of /etc/ssh/ssh_host_ed25519_key.pub."
  }
}

variable "known_hosts" {
  description = "The file on this machine in which a host's key is noted at the first contact; keep it beside the state. A host that shows another one later gets nothing."
  type        = string
  default     = "known_hosts"
  nullable    = false
}

variable "pillar" {
  description = "The folder on this machine with the cluster's pillar (top.sls in it); by default the project's own."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.pillar == "" ? true : fileexists("${var.pillar}/top.sls")
    error_message = "There is no ${var.pillar}/top.sls; pillar names a folder with Salt's pillar."
  }
}

variable "drain" {
  description = "Drain a node before it leaves: one whose volumes are in use is then not removed. false removes it all the same."
  type        = bool
  default     = true
  nullable    = false
}
