# Takes away what examples.volumes declares, and what the trash holds of it.

example-ext4 is not mounted:
  dsvolume.unmounted:
    - name: example-ext4

{% for name in ["example-local", "example-ext4", "example-ram", "example-secure"] %}
no {{ name }}:
  dsvolume.absent:
    - name: {{ name }}
    - purge: True
{% endfor %}
