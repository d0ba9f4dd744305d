package org.dualpix.demo.app;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.function.IntToDoubleFunction;
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
    public List<FloatTensor> run(List<FloatTensor> inputs) throws IOException {
        if (module == null) {
            throw new IOException("no network is loaded");
        }
        EValue[] values = new EValue[inputs.size()];
        for (int i = 0; i < values.length; i++) {
            values[i] = EValue.from(tensor(inputs.get(i)));
        }
        try {
            List<FloatTensor> out = new ArrayList<>();
            for (EValue value : module.forward(values)) {
                out.add(values(value, out.size() + 1));
            }
            return out;
        } catch (RuntimeException error) {
            throw new IOException("the network failed: " + error.getMessage(), error);
        }
    }

    /** As the program takes it; whole types are copied, float32 is not. */
    private static Tensor tensor(FloatTensor given) {
        int count = given.data().capacity();
        switch (given.type()) {
            case UINT8:
                ByteBuffer bytes = Tensor.allocateByteBuffer(count);
                for (int i = 0; i < count; i++) {
                    bytes.put(i, (byte) (int) given.data().get(i));
                }
                return Tensor.fromBlobUnsigned(bytes, given.shape());
            case INT32:
                IntBuffer ints = Tensor.allocateIntBuffer(count);
                for (int i = 0; i < count; i++) {
                    ints.put(i, (int) given.data().get(i));
                }
                return Tensor.fromBlob(ints, given.shape());
            case INT64:
                LongBuffer longs = Tensor.allocateLongBuffer(count);
                for (int i = 0; i < count; i++) {
                    longs.put(i, (long) given.data().get(i));
                }
                return Tensor.fromBlob(longs, given.shape());
            default:
                return Tensor.fromBlob(given.data(), given.shape());
        }
    }

    private static FloatTensor values(EValue value, int number) throws IOException {
        if (!value.isTensor()) {
            throw new IOException("output " + number + " of the network is no tensor");
        }
        Tensor tensor = value.toTensor();
        switch (tensor.dtype()) {
            case FLOAT:
                return FloatTensor.of(tensor.getDataAsFloatArray(), tensor.shape());
            case UINT8:
                byte[] bytes = tensor.getDataAsUnsignedByteArray();
                return filled(tensor, FloatTensor.Type.UINT8, i -> bytes[i] & 0xff);
            case INT32:
                int[] ints = tensor.getDataAsIntArray();
                return filled(tensor, FloatTensor.Type.INT32, i -> ints[i]);
            case INT64:
                long[] longs = tensor.getDataAsLongArray();
                return filled(tensor, FloatTensor.Type.INT64, i -> longs[i]);
            default:
                throw new IOException("output " + number + " of the network is of type " + tensor.dtype()
                        + "; expected float32, uint8, int32 or int64");
        }
    }

    private static FloatTensor filled(Tensor tensor, FloatTensor.Type type, IntToDoubleFunction value) {
        FloatTensor out = FloatTensor.zeros(tensor.shape());
        for (int i = 0; i < out.data().capacity(); i++) {
            out.data().put(i, (float) value.applyAsDouble(i));
        }
        return out.as(type);
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
