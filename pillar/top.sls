base:
  '*':
    - dsvolume
