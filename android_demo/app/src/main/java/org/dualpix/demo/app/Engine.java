package org.dualpix.demo.app;

import java.io.File;
import java.io.IOException;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import org.dualpix.demo.core.FloatTensor;
import org.dualpix.demo.core.InferenceEngine;
import org.pytorch.executorch.EValue;
import org.pytorch.executorch.Module;
import org.pytorch.executorch.Tensor;

/** ExecuTorch. The program is mapped, not read; its delegates work with the number of threads that was asked for. */
public final class Engine implements InferenceEngine {
    private static final String METHOD = "forward";

    private final String runtime;
    private Module module;

    /** With the name and version of what the app was built with, which the library does not say. */
    public Engine(String runtime) {
        this.runtime = runtime;
    }

    @Override
    public void load(File model, int threads) throws IOException {
        close();
        try {
            module = Module.load(model.getPath(), Module.LOAD_MODE_MMAP, threads);
            module.loadMethod(METHOD);
        } catch (RuntimeException error) {
            close();
            throw new IOException("'" + model.getName() + "' cannot be loaded: " + error.getMessage(), error);
        }
    }

    @Override
    public List<String> backends() {
        if (module == null) {
            return Collections.emptyList();
        }
        return Arrays.asList(module.getMethodMetadata(METHOD).getBackends());
    }

    @Override
    public float[] run(List<FloatTensor> inputs) throws IOException {
        if (module == null) {
            throw new IOException("no network is loaded");
        }
        EValue[] values = new EValue[inputs.size()];
        for (int i = 0; i < values.length; i++) {
            values[i] = EValue.from(Tensor.fromBlob(inputs.get(i).data(), inputs.get(i).shape()));
        }
        try {
            EValue[] out = module.forward(values);
            if (out.length == 0 || !out[0].isTensor()) {
                throw new IOException("the network gives no tensor");
            }
            return out[0].toTensor().getDataAsFloatArray();
        } catch (RuntimeException error) {
            throw new IOException("the network failed: " + error.getMessage(), error);
        }
    }

    @Override
    public String runtime() {
        return runtime;
    }

    @Override
    public void close() {
        if (module != null) {
            module.close();
            module = null;
        }
    }
}
