package org.pock;

import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/**
 * A model that trains, evaluates and predicts. Errors are RuntimeExceptions with one line that says what is wrong; one
 * thread at a time is let in.
 */
public final class PockModel implements AutoCloseable {
  static {
    System.loadLibrary("pock_jni");
  }

  /** What `dtype` and `role` of a tensor say, as in pock.h. */
  public static final int FLOAT32 = 2, INT32 = 4, INT64 = 5, INPUT = 4, LABEL = 5, OUTPUT = 7;

  /** A tensor, by its name in manifest.json, which has its shape. */
  public static final class Tensor {
    public final String name;
    public final long bytes;
    public final int dtype, role;
    public final boolean writable;

    Tensor(String name, long[] facts) {
      this.name = name;
      this.bytes = facts[0];
      this.dtype = (int) facts[1];
      this.role = (int) facts[2];
      this.writable = facts[3] != 0;
    }
  }

  private final List<Tensor> tensors = new ArrayList<>();
  private long session;

  /** Map the weights, which must stay as they are until close(). */
  public PockModel(File weights, int threads) {
    session = nativeOpen(weights.getPath(), threads);
    long[] facts = new long[4];
    for (int i = 0; i < nativeTensorCount(); i++) tensors.add(new Tensor(nativeTensor(session, i, facts), facts));
  }

  /** How many threads a step gains from. */
  public static int suggestedThreads() {
    return nativeSuggestedThreads();
  }

  /** Copy an asset (`getAssets().open("pock_model/weights.safetensors")`) to a file, whole or not at all. */
  public static void unpack(InputStream from, File to) throws IOException {
    File fresh = new File(to.getPath() + ".partial");
    try (OutputStream out = new FileOutputStream(fresh)) {
      byte[] piece = new byte[1 << 16];
      for (int n; (n = from.read(piece)) >= 0; ) out.write(piece, 0, n);
    }
    if (!fresh.renameTo(to)) throw new IOException("cannot rename " + fresh + " to " + to);
  }

  /** A buffer that write() and read() take: direct, in the machine's order of bytes. */
  public static ByteBuffer buffer(long bytes) {
    return ByteBuffer.allocateDirect(Math.toIntExact(bytes)).order(ByteOrder.nativeOrder());
  }

  public List<Tensor> tensors() {
    return Collections.unmodifiableList(tensors);
  }

  /** Fill a tensor from a whole direct buffer, whatever its position. Inputs must be written before each call. */
  public synchronized void write(String tensor, ByteBuffer from) {
    nativeWrite(open(), tensor, from);
  }

  /** Copy a tensor into a whole direct buffer. */
  public synchronized void read(String tensor, ByteBuffer to) {
    nativeRead(open(), tensor, to);
  }

  /** One optimizer step on the batch in the inputs; returns its loss. */
  public synchronized float trainStep(float learningRate) {
    return nativeTrainStep(open(), learningRate);
  }

  /** The loss of the batch in the inputs. */
  public synchronized float evaluate() {
    return nativeEvaluate(open());
  }

  /** How many predictions of the last evaluate() were right, or -1 where the model has no such count. */
  public synchronized int correct() {
    return nativeCorrect(open());
  }

  /** Fill the outputs. */
  public synchronized void predict() {
    nativePredict(open());
  }

  /** Steps since the artifact was compiled. */
  public synchronized long steps() {
    return nativeSteps(open());
  }

  /** Save a checkpoint; the old file stays whole whatever happens. */
  public synchronized void save(File checkpoint) {
    nativeSave(open(), checkpoint.getPath());
  }

  /** Go on from a checkpoint, of this machine or another. */
  public synchronized void load(File checkpoint) {
    nativeLoad(open(), checkpoint.getPath());
  }

  @Override
  public synchronized void close() {
    if (session != 0) nativeClose(session);
    session = 0;
  }

  private long open() {
    if (session == 0) throw new IllegalStateException("the model has been closed");
    return session;
  }

  private static native int nativeSuggestedThreads();

  private static native long nativeOpen(String weights, int threads);

  private static native void nativeClose(long session);

  private static native float nativeTrainStep(long session, float learningRate);

  private static native float nativeEvaluate(long session);

  private static native int nativeCorrect(long session);

  private static native void nativePredict(long session);

  private static native long nativeSteps(long session);

  private static native void nativeWrite(long session, String tensor, ByteBuffer from);

  private static native void nativeRead(long session, String tensor, ByteBuffer to);

  private static native void nativeSave(long session, String file);

  private static native void nativeLoad(long session, String file);

  private static native int nativeTensorCount();

  private static native String nativeTensor(long session, int number, long[] facts);
}
