package org.dualpix.demo.core;

import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** Checks that a network computes what it should, then times it, for each number of threads. */
public final class BenchRunner {
    /** Follows the progress, on the thread of the run. */
    public interface Listener {
        void now(String what);
    }

    private final InferenceEngine engine;
    private final DeviceProbe probe;
    private final String app;
    private final Listener listener;

    public BenchRunner(InferenceEngine engine, DeviceProbe probe, String app, Listener listener) {
        this.engine = engine;
        this.probe = probe;
        this.app = app;
        this.listener = listener;
    }

    /**
     * Runs what the request in {@code folder} asks for, and writes {@code result.json} there, whatever happens.
     *
     * @return what was written
     * @throws IOException it cannot be written
     */
    public Map<String, Object> run(File folder) throws IOException {
        Map<String, Object> result = Json.object("format", BenchRequest.FORMAT, "created", Clock.SYSTEM.utc(), "run_id",
                folder.getName(), "app", app, "verified", false, "max_abs_error", null, "error", null);
        List<Object> profiles = new ArrayList<>();
        result.put("profiles", profiles);
        try {
            sweep(folder, BenchRequest.read(folder), result, profiles);
            result.put("verified", true);
        } catch (IOException | RuntimeException | LinkageError | OutOfMemoryError error) {
            result.put("error", message(error));
        } finally {
            engine.close();
        }
        Folders.write(new File(folder, BenchRequest.RESULT), Json.write(result));
        return result;
    }

    private void sweep(File folder, BenchRequest request, Map<String, Object> result, List<Object> profiles)
            throws IOException {
        listener.now("reading");
        File model = request.modelIn(folder);
        List<FloatTensor> inputs = new ArrayList<>();
        for (BenchRequest.Blob input : request.inputs()) {
            inputs.add(input.read(folder));
        }
        FloatTensor expected = request.expected().read(folder);
        double worst = 0;
        for (long threads : request.threads()) {
            listener.now(threads == 1 ? "1 thread" : threads + " threads");
            BenchReport report = new BenchReport(request, probe, (int) threads);
            Double error = null;
            try {
                report.loading();
                engine.load(model, (int) threads);
                report.loaded(engine);
                error = maxAbsError(report.first(() -> engine.run(inputs)), expected);
                worst = Math.max(worst, error);
                result.put("max_abs_error", worst);
                if (error > request.maxAbs()) {
                    throw new IOException("the output is off by " + error + "; expected at most " + request.maxAbs());
                }
                time(request, report, inputs);
            } catch (IOException | RuntimeException | LinkageError | OutOfMemoryError fault) {
                profiles.add(report.toJson(false, error, message(fault)));
                throw fault;
            }
            profiles.add(report.toJson(true, error, null));
        }
    }

    private void time(BenchRequest request, BenchReport report, List<FloatTensor> inputs) throws IOException {
        for (int i = 0; i < request.warmup(); i++) {
            engine.run(inputs);
        }
        for (int i = 0; i < request.runs(); i++) {
            report.sample(() -> engine.run(inputs));
        }
    }

    private static String message(Throwable error) {
        String said = error.getMessage() == null ? error.toString() : error.getMessage();
        return said.substring(0, Math.min(said.length(), Messages.MAX_MESSAGE));
    }

    /**
     * Largest difference of an output from what was expected.
     *
     * @throws IOException another number of values, or one that is not finite
     */
    static double maxAbsError(float[] output, FloatTensor expected) throws IOException {
        if (output.length != expected.data().capacity()) {
            throw new IOException(output.length + " values came out; expected " + expected.data().capacity());
        }
        double worst = 0;
        for (int i = 0; i < output.length; i++) {
            double error = Math.abs((double) output[i] - expected.data().get(i));
            if (!(error < Double.POSITIVE_INFINITY)) {
                throw new IOException("value " + i + " of the output is " + output[i]);
            }
            worst = Math.max(worst, error);
        }
        return worst;
    }
}
