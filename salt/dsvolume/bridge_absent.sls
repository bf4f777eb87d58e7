# What dsvolume.bridge has brought goes; volumes, their records and what is mounted stay:
#   salt host1 state.apply dsvolume.bridge_absent
# Refused while containers use volumes here: nobody would let go of them.

{% from "dsvolume/map.jinja" import root, engine_config, environment, config, units, links
   with context %}
{% set used, known = [], "dsvolume.attachments" in salt %}
{% for attached in (salt["dsvolume.attachments"]() if known else []) %}
{% for user in attached["Users"] if user["Engine"] != "salt" %}
{% do used.append(attached["Volume"] ~ " (" ~ (user["Container"] or user["Id"])[:12] ~ ")") %}
{% endfor %}
{% endfor %}
{% set engine = {} %}
{% if salt["file.file_exists"](engine_config) %}
{% set engine = salt["slsutil.deserialize"]("json", salt["file.read"](engine_config) or "{}") %}
{% endif %}
{% set runtimes = engine.get("runtimes", {}) %}

{% if not known %}
who uses volumes here is known:
  test.fail_without_changes:
    - name: The module dsvolume is not loaded on this node; run saltutil.sync_all and call again
    - failhard: True
{% elif used %}
no container uses a volume here:
  test.fail_without_changes:
    - name: Stop the containers that use volumes here first - {{ used | sort | join(", ") }}
    - failhard: True
{% endif %}

{% if "dsvolume" in runtimes %}
{% if engine.get("default-runtime") == "dsvolume" %}
Docker can do without the runtime:
  test.fail_without_changes:
    - name: dsvolume is Docker's default-runtime in {{ engine_config }}; name another one there first
    - failhard: True
{% endif %}
{% do runtimes.pop("dsvolume") %}
{% if not runtimes %}{% do engine.pop("runtimes") %}{% endif %}
Docker's runtime dsvolume is gone:
  file.serialize:
    - name: {{ engine_config }}
    - dataset: {{ engine | json }}
    - serializer: json

Docker has forgotten the runtime:
  cmd.run:
    - name: systemctl reload docker.service
    - onlyif: systemctl --quiet is-active docker.service
    - onchanges:
      - file: Docker's runtime dsvolume is gone
{% endif %}

# Docker requires the socket: it must not do so any more when the socket is stopped, or it stops too.
Docker does not need the bridge:
  cmd.run:
    - name: systemctl disable {{ units | join(" ") }}
    - onlyif: test -e /etc/systemd/system/{{ units[0] }}

no {{ units[0] }}:
  file.absent:
    - name: /etc/systemd/system/{{ units[0] }}
    - require:
      - cmd: Docker does not need the bridge

# The service goes with its socket, by what its unit says of its end. (To file.absent a socket is
# not there.)
the bridge is stopped:
  cmd.run:
    - name: >-
        systemctl daemon-reload && systemctl stop {{ units | join(" ") }} &&
        rm -f /run/docker/plugins/dsvolume.sock /run/dsvolume/podman.sock /run/dsvolume/admin.sock
    - onchanges:
      - file: no {{ units[0] }}

no {{ units[1] }}:
  file.absent:
    - name: /etc/systemd/system/{{ units[1] }}
    - require:
      - cmd: the bridge is stopped

systemd has forgotten the bridge:
  cmd.run:
    - name: systemctl daemon-reload
    - onchanges:
      - file: no {{ units[1] }}

{% set written = [config] if salt["pillar.get"]("dsvolume") else [] %}
{% for path in [environment, root] + written + links.keys() | list %}
no {{ path }}:
  file.absent:
    - name: {{ path }}
    - require:
      - cmd: systemd has forgotten the bridge
{% endfor %}
