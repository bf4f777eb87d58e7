# The bridge from Docker to the volumes of this node, as a service:
#   salt '*' state.apply dsvolume.bridge
# A versioned copy of the code, its configuration from pillar `dsvolume:`, units, and the command
# line `docker dsvolume`. It is restarted only when something has changed, and no request is lost.
# Settings: pillar `dsvolume_bridge:`, see defaults.yaml. Away with it: dsvolume.bridge_absent.

{% from "dsvolume/map.jinja" import bridge, root, current, runtime, engine_config, environment,
   config, units, links, version with context %}
{% set copy = root ~ "/" ~ version %}
{% set options = [
  "--config-dir=" ~ bridge.config_dir, "--engine=" ~ bridge.engine,
  "--log-level=" ~ bridge.log_level, "--log-format=" ~ bridge.log_format,
] %}
{% set settings = salt["config.get"]("dsvolume", {}, merge="recurse") or {} %}
{% set run_dir = settings.get("run_dir") or (settings.root ~ "/run" if settings.get("root") else "") %}
{% set before = salt["file.readlink"](current) if salt["file.is_link"](current) else "" %}

{% if not version %}
the version is known:
  test.fail_without_changes:
    - name: The master serves no salt://_utils/libstorage/version.py, which tells the version
    - failhard: True
{% endif %}

{% if not opts["root_dir"].startswith("/") %}
this minion can be found from anywhere:
  test.fail_without_changes:
    - name: This minion's configuration has relative paths; a service needs one with absolute ones
    - failhard: True
{% endif %}

the code of the bridge:
  file.recurse:
    - name: {{ copy }}/plugin
    - source: salt://dsvolume/plugin
    - exclude_pat: E@(^bin(/|$)|__pycache__)
    - clean: True
    - dir_mode: 755
    - file_mode: 644

programs of the bridge:
  file.recurse:
    - name: {{ copy }}/plugin/bin
    - source: salt://dsvolume/plugin/bin
    - exclude_pat: E@__pycache__
    - clean: True
    - dir_mode: 755
    - file_mode: 755

the package libstorage:
  file.recurse:
    - name: {{ copy }}/salt/_utils
    - source: salt://_utils
    - include_pat: '*.py'
    - exclude_pat: E@__pycache__
    - clean: True
    - dir_mode: 755
    - file_mode: 644

the module dsvolume:
  file.managed:
    - name: {{ copy }}/salt/_modules/dsvolume.py
    - source: salt://_modules/dsvolume.py
    - makedirs: True
    - dir_mode: 755
    - mode: 644

# Only a whole copy becomes the current one: a master may serve new files a moment before it lists
# them.
version {{ version }} starts:
  cmd.run:
    - name: {{ bridge.python }} {{ copy }}/plugin/bin/dsvolume-bridge --version
    - unless: test "$(readlink {{ current }})" = {{ copy }}
    - require:
      - file: the code of the bridge
      - file: programs of the bridge
      - file: the package libstorage
      - file: the module dsvolume

version {{ version }} is the current one:
  file.symlink:
    - name: {{ current }}
    - target: {{ copy }}
    - atomic: True
    - require:
      - cmd: version {{ version }} starts

{% if before and before != copy and salt["file.directory_exists"](root) %}
# The one before stays: the bridge still runs from it, and it is the way back.
{% for name in salt["file.readdir"](root) | sort if name not in (".", "..", "current") %}
{% set other = root ~ "/" ~ name %}
{% if other not in (copy, before) %}
older version {{ name }}:
  file.absent:
    - name: {{ other }}
    - require:
      - file: version {{ version }} is the current one
{% endif %}
{% endfor %}
{% endif %}

{% if salt["pillar.get"]("dsvolume") %}
# Read by the bridge, which sees no pillar. It may hold a password: none of it is shown.
configuration of this node:
  file.serialize:
    - name: {{ config }}
    - dataset_pillar: dsvolume
    - serializer: yaml
    - show_changes: False
    - makedirs: True
    - dir_mode: 755
    - user: root
    - group: root
    - mode: 600
    - watch_in:
      - service: the bridge
{% endif %}

how the bridge is started:
  file.managed:
    - name: {{ environment }}
    - contents:
      - 'PYTHON={{ bridge.python }}'
      - 'OPTIONS={{ options | join(" ") }}'
    - mode: 644

{% for unit in units %}
{{ unit }}:
  file.managed:
    - name: /etc/systemd/system/{{ unit }}
    - source: salt://dsvolume/plugin/systemd/{{ unit }}
    - mode: 644
{% endfor %}

systemd knows the bridge's units:
  cmd.run:
    - name: systemctl daemon-reload
    - onchanges:
      {%- for unit in units %}
      - file: {{ unit }}
      {%- endfor %}

# Never restarted: Docker requires it. A changed unit counts from the next boot.
the bridge's sockets:
  service.running:
    - name: dsvolume-bridge.socket
    - enable: True
    - require:
      - cmd: systemd knows the bridge's units

the bridge:
  service.running:
    - name: dsvolume-bridge.service
    - enable: True
    - require:
      - service: the bridge's sockets
    - watch:
      - file: the code of the bridge
      - file: programs of the bridge
      - file: the package libstorage
      - file: the module dsvolume
      - file: version {{ version }} is the current one
      - file: how the bridge is started
      - file: dsvolume-bridge.service

{% for link, target in links.items() %}
{{ link }}:
  file.symlink:
    - target: {{ current }}/{{ target }}
    - makedirs: True
    - require:
      - file: version {{ version }} is the current one
{% endfor %}

{% if bridge.runtime and "dsvolume/plugin/bin/dsvolume-runc" in salt["cp.list_master"](prefix="dsvolume/plugin/bin") %}
Docker's runtime dsvolume:
  file.serialize:
    - name: {{ engine_config }}
    - dataset:
        runtimes:
          dsvolume:
            path: {{ runtime }}
            {%- if run_dir %}
            runtimeArgs: ["--dsvolume-run-dir={{ run_dir }}"]
            {%- endif %}
    - serializer: json
    - merge_if_exists: True
    - makedirs: True
    - require:
      - file: version {{ version }} is the current one

# Runtimes are among what Docker reads anew without a restart.
Docker knows the runtime:
  cmd.run:
    - name: systemctl reload docker.service
    - onlyif: systemctl --quiet is-active docker.service
    - onchanges:
      - file: Docker's runtime dsvolume
{% endif %}
