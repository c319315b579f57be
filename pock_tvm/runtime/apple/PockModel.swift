import CPockModel
import Foundation

/// What went wrong, in one line.
public struct PockError: Error, CustomStringConvertible {
  public let description: String
}

/// A model that trains, evaluates and predicts. One thread at a time may use it.
public final class PockModel {
  private let session, state, arena: UnsafeMutableRawPointer
  private var handle: OpaquePointer { OpaquePointer(session) }

  /// The weights that came with the package.
  public static var weights: URL {
    Bundle.module.url(forResource: "weights", withExtension: "safetensors", subdirectory: "pock_model")!
  }

  /// Map the weights, which must stay as they are as long as the model lives.
  public init(weights: URL = PockModel.weights, threads: Int32 = pock_suggested_threads()) throws {
    guard (1...POCK_MAX_THREADS).contains(threads) else { throw PockError(description: "1 to 64 threads work") }
    func region(_ bytes: Int) -> UnsafeMutableRawPointer {
      .allocate(byteCount: max(bytes, 1), alignment: Int(POCK_ALIGNMENT))
    }
    var setup = pock_setup()
    setup.abi = POCK_ABI
    setup.threads = threads
    setup.session_bytes = pock_session_bytes()
    setup.state_bytes = pock_state_bytes()
    setup.arena_bytes = pock_arena_bytes(threads)
    let session = region(setup.session_bytes)
    let state = region(setup.state_bytes)
    let arena = region(setup.arena_bytes)
    setup.state = state
    setup.arena = arena
    if pock_open(OpaquePointer(session), weights.path, &setup) != 0 {
      let message = String(cString: pock_last_error(OpaquePointer(session)))
      for memory in [session, state, arena] { memory.deallocate() }
      throw PockError(description: message)
    }
    (self.session, self.state, self.arena) = (session, state, arena)
  }

  deinit {
    pock_shutdown(handle)
    for memory in [session, state, arena] { memory.deallocate() }
  }

  /// Fill a tensor. Inputs must be written before each call.
  public func write<T>(_ tensor: String, _ values: [T]) throws {
    try values.withUnsafeBytes { try check(pock_write_tensor(handle, tensor, $0.baseAddress, $0.count)) }
  }

  /// Copy a tensor into `values`, which must have its size.
  public func read<T>(_ tensor: String, into values: inout [T]) throws {
    try values.withUnsafeMutableBytes { try check(pock_read_tensor(handle, tensor, $0.baseAddress, $0.count)) }
  }

  /// One optimizer step on the batch in the inputs; returns its loss.
  public func trainStep(learningRate: Float) throws -> Float {
    var loss: Float = 0
    try check(pock_train_step(handle, learningRate, &loss))
    return loss
  }

  /// The loss of the batch in the inputs, and how many predictions were right (-1: the model has no such count).
  public func evaluate() throws -> (loss: Float, correct: Int32) {
    var loss: Float = 0
    var correct: Int32 = 0
    try check(pock_evaluate(handle, &loss, &correct))
    return (loss, correct)
  }

  /// Fill the outputs.
  public func predict() throws { try check(pock_predict(handle)) }

  /// Save a checkpoint; the old file stays whole whatever happens.
  public func save(_ checkpoint: URL) throws { try check(pock_checkpoint_save(handle, checkpoint.path)) }

  /// Go on from a checkpoint, of this machine or another.
  public func load(_ checkpoint: URL) throws { try check(pock_checkpoint_load(handle, checkpoint.path)) }

  private func check(_ code: Int32) throws {
    if code != 0 { throw PockError(description: String(cString: pock_last_error(handle))) }
  }
}
