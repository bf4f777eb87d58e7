# The QoS profiles that pillar states:
#   dsvolume:
#     profiles:
#       slow: {read_bw: 2000000, write_bw: 1000000}
#   salt '*' state.apply dsvolume.profiles
# What pillar names no more stays: dsvolume.qos_profile_absent takes it away.

{% for name, limits in salt["pillar.get"]("dsvolume:profiles", {}) | dictsort %}
QoS profile {{ name }}:
  dsvolume.qos_profile_present:
    - name: {{ name | string | json }}
    {%- for limit, value in (limits or {}) | dictsort %}
    - {{ limit }}: {{ value | json }}
    {%- endfor %}
{% else %}
no QoS profile is stated:
  test.nop: []
{% endfor %}
