  .section .rodata.samples, "a"
  .balign 4
  .global samples
samples:
  .incbin SAMPLES
  .global samples_end
samples_end:
