# Volumes of a whole cluster, for all minions at once:
#   salt '*' state.apply examples.cluster
# One node creates each, all see the same records; each mounts for itself. Away with one again:
#   salt '*' dsvolume.unmount cluster-cache
#   salt '*' dsvolume.rm cluster-cache

cluster-pages:
  dsvolume.present:
    - policy: local
    - labels:
        purpose: example

cluster-cache:
  dsvolume.present:
    - policy: ram
    - size: 16

{% for name in ["cluster-pages", "cluster-cache"] %}
{{ name }} is mounted:
  dsvolume.mounted:
    - name: {{ name }}
{% endfor %}
