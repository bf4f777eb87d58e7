variable "inventory" {
  description = "The cluster, as the module inventory gives it."
  type = object({
    cluster = string
    master  = string
    nodes   = map(object({ address = string, private_address = string, roles = list(string), disks = list(string) }))
    roles   = map(list(string))
  })
}

variable "ways" {
  description = "How ssh reaches each node: the environment of the bootstrap's over.sh."
  type        = map(map(string))
}

variable "hosts" {
  description = "The identity of each node's host, as the module bootstrap gives it once Salt is there."
  type        = map(string)
}

variable "served" {
  description = "What the master serves, as the module bootstrap gives it; when it changes, the nodes take it over."
  type        = string
}

variable "drain" {
  description = "Drain a node before it leaves."
  type        = bool
}
