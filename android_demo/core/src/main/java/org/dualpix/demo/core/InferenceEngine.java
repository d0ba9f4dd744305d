package org.dualpix.demo.core;

import java.io.Closeable;
import java.io.File;
import java.io.IOException;
import java.util.List;

/** Runs a network; used from one thread. */
public interface InferenceEngine extends Closeable {
    /** Loads a program and its method; what was loaded before is let go of. */
    void load(File model, int threads) throws IOException;

    /** Names of the backends that the loaded program delegates to. */
    List<String> backends();

    /**
     * All outputs, in the program's order.
     *
     * @throws IOException the program fails, or gives something that is no tensor
     */
    List<FloatTensor> run(List<FloatTensor> inputs) throws IOException;

    /** What runs it, with its version as far as it says. */
    String runtime();

    @Override
    void close();
}
