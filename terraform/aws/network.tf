# One private network with a subnet in each zone, and a security group for each role.
resource "aws_vpc" "this" {
  cidr_block           = module.access.network
  enable_dns_hostnames = true
  tags                 = { Name = var.cluster }
}

# The group that whoever names none gets: it opens nothing.
resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id
}

resource "aws_subnet" "zone" {
  for_each = toset(var.zones)

  vpc_id            = aws_vpc.this.id
  availability_zone = "${var.region}${each.key}"
  cidr_block        = cidrsubnet(module.access.network, 2, index(var.zones, each.key))
  tags              = { Name = "${var.cluster}-${each.key}" }
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = var.cluster }
}

resource "aws_route_table" "this" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = var.cluster }
}

resource "aws_route" "out" {
  route_table_id         = aws_route_table.this.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route_table_association" "zone" {
  for_each = aws_subnet.zone

  route_table_id = aws_route_table.this.id
  subnet_id      = each.value.id
  depends_on     = [aws_route.out]
}

resource "aws_security_group" "role" {
  for_each = toset(["node", "master", "etcd", "ceph", "docker"])

  name        = "${var.cluster}-${each.key}"
  description = "Nodes of ${var.cluster} with the role ${each.key}"
  vpc_id      = aws_vpc.this.id
  tags        = { Name = "${var.cluster}-${each.key}" }
}

resource "aws_vpc_security_group_ingress_rule" "ssh" {
  for_each = toset(module.access.allowed)

  security_group_id = aws_security_group.role["node"].id
  description       = "SSH for Terraform and administrators"
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = strcontains(each.key, ":") ? null : each.key
  cidr_ipv6         = strcontains(each.key, ":") ? each.key : null
}

resource "aws_vpc_security_group_ingress_rule" "icmp" {
  security_group_id            = aws_security_group.role["node"].id
  description                  = "ICMP inside"
  ip_protocol                  = "icmp"
  from_port                    = -1
  to_port                      = -1
  referenced_security_group_id = aws_security_group.role["node"].id
}

resource "aws_vpc_security_group_ingress_rule" "inside" {
  for_each = merge([
    for name, rule in module.access.rules : { for role in rule.from : "${name}/${role}" => merge(rule, { from = role }) }
  ]...)

  security_group_id            = aws_security_group.role[each.value.to].id
  description                  = "${each.key} inside"
  ip_protocol                  = "tcp"
  from_port                    = each.value.first
  to_port                      = each.value.last
  referenced_security_group_id = aws_security_group.role[each.value.from].id
}

resource "aws_vpc_security_group_egress_rule" "out" {
  security_group_id = aws_security_group.role["node"].id
  description       = "Packages, and the cluster itself"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}
