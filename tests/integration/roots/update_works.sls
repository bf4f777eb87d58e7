the update is all right:
  test.nop: []
