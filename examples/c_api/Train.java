import java.io.File;
import java.nio.ByteBuffer;
import org.pock.PockModel;
import org.pock.PockModel.Tensor;

/**
 * Train an artifact from Java, with the class and the C file that `pock package net --for android` writes (here they lie
 * in pock_tvm/runtime/android):
 *
 * <pre>
 * cc -shared -fPIC pock_jni.c -I$JAVA_HOME/include -I$JAVA_HOME/include/linux -Inet/runtime net/libpock_model.so \
 *    -Wl,-rpath,$PWD/net -o libpock_jni.so
 * javac -d . PockModel.java Train.java && java -Djava.library.path=. Train net/weights.safetensors
 * </pre>
 */
public final class Train {
  /** Made-up samples: a program of your own puts pictures and labels here. */
  static void fill(PockModel model) {
    for (Tensor tensor : model.tensors()) {
      if (tensor.role != PockModel.INPUT && tensor.role != PockModel.LABEL) continue;
      ByteBuffer values = PockModel.buffer(tensor.bytes);
      for (int k = 0; k < tensor.bytes / 4; k++) {
        if (tensor.dtype == PockModel.FLOAT32) values.putFloat(4 * k, k % 5 - 2);
        if (tensor.dtype == PockModel.INT32) values.putInt(4 * k, k % 3);
      }
      model.write(tensor.name, values);
    }
  }

  public static void main(String[] words) {
    try (PockModel model = new PockModel(new File(words[0]), 2)) {
      for (int i = 0; i < 5; i++) {
        fill(model);
        System.out.println(model.trainStep(0.01f));
      }
    }
    try {
      new PockModel(new File("/nowhere/weights"), 2);
    } catch (RuntimeException error) {
      System.out.println(error.getMessage());
    }
  }
}
