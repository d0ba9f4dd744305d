package org.dualpix.demo.desktop;

import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.dualpix.demo.core.Clock;
import org.dualpix.demo.core.Fields;
import org.dualpix.demo.core.FloatTensor;
import org.dualpix.demo.core.Folders;
import org.dualpix.demo.core.InferenceEngine;

/**
 * A network that a script plays.
 *
 * <p>The script is a JSON object: {@code outputs}, a list of {file, shape}, raw float32 beside the script; {@code
 * offset}, added to every value; {@code load_ms}; {@code run_ms}, a list gone through in turn; {@code backends}; {@code
 * fault}: null,
 * {@code load} or {@code run}.
 */
public final class ScriptedEngine implements InferenceEngine {
    private final Clock clock;
    private final List<FloatTensor> outputs = new ArrayList<>();
    private final double offset;
    private final long loadMs;
    private final List<Long> runMs;
    private final List<String> backends = new ArrayList<>();
    private final String fault;
    private boolean loaded;
    private int runs;

    public ScriptedEngine(File script, Clock clock) throws IOException {
        this.clock = clock;
        Fields f = Fields.parse(Folders.read(script, 1 << 20), script.getName());
        for (Fields out : f.objects("outputs", 1, 16)) {
            outputs.add(FloatTensor.read(Folders.child(script.getAbsoluteFile().getParentFile(), out.text("file")),
                    out.wholes("shape", 0, 8, 1, 1 << 28).stream().mapToLong(Long::longValue).toArray()));
        }
        offset = f.number("offset", -1e9, 1e9);
        loadMs = f.whole("load_ms", 0, 60_000);
        runMs = f.wholes("run_ms", 1, 1000, 0, 60_000);
        Collections.addAll(backends, f.text("backends").split(","));
        fault = f.optional("fault", key -> f.oneOf(key, "load", "run"));
    }

    @Override
    public void load(File model, int threads) throws IOException {
        clock.sleep(loadMs);
        if ("load".equals(fault)) {
            throw new IOException("the program cannot be loaded: error 0x23");
        }
        loaded = true;
    }

    @Override
    public List<String> backends() {
        return backends;
    }

    @Override
    public List<FloatTensor> run(List<FloatTensor> inputs) throws IOException {
        if (!loaded) {
            throw new IOException("nothing is loaded");
        }
        clock.sleep(runMs.get(runs++ % runMs.size()));
        if ("run".equals(fault)) {
            throw new IOException("the method failed: error 0x12");
        }
        List<FloatTensor> out = new ArrayList<>();
        for (FloatTensor output : outputs) {
            float[] values = output.values();
            for (int i = 0; i < values.length; i++) {
                values[i] = (float) (values[i] + offset);
            }
            out.add(FloatTensor.of(values, output.shape()));
        }
        return out;
    }

    @Override
    public String runtime() {
        return "scripted 1";
    }

    @Override
    public void close() {
        loaded = false;
    }
}
