/** Train an artifact from Java: `java Train weights.safetensors`, with the stub of train_jni.c on java.library.path. */
public final class Train {
  static {
    System.loadLibrary("train_jni");
  }

  /** Start a session; its address, or an exception with the runtime's message. */
  static native long open(String weights, int threads);

  /** Fill the inputs with made-up samples, run one step, return its loss. */
  static native float step(long session, float learningRate);

  static native void close(long session);

  public static void main(String[] words) {
    long session = open(words[0], 2);
    for (int i = 0; i < 5; i++) System.out.println(step(session, 0.01f));
    close(session);
    try {
      open("/nowhere/weights", 2);
    } catch (RuntimeException error) {
      System.out.println(error.getMessage());
    }
  }
}
