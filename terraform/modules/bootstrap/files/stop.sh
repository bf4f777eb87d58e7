# stop.sh: Salt's services are stopped for good; what they know stays on the host.
systemctl disable --quiet --now salt-minion 2>/dev/null || true
systemctl disable --quiet --now salt-master 2>/dev/null || true
