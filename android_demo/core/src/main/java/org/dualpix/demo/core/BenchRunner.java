package org.dualpix.demo.core;

import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
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
        Map<String, Object> result = Json.object("format", BenchRequest.RESULT_FORMAT, "created", Clock.SYSTEM.utc(), "run_id",
                folder.getName(), "app", app, "verified", false, "max_abs_error", null, "max_abs_errors",
                Collections.emptyList(), "error", null);
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
        List<FloatTensor> expected = new ArrayList<>();
        for (BenchRequest.Expected output : request.expected()) {
            expected.add(output.blob().read(folder));
        }
        double[] worst = new double[expected.size()];
        for (long threads : request.threads()) {
            listener.now(threads == 1 ? "1 thread" : threads + " threads");
            BenchReport report = new BenchReport(request, probe, (int) threads);
            Double error = null;
            try {
                report.loading();
                engine.load(model, (int) threads);
                report.loaded(engine);
                double[] errors = maxAbsErrors(report.first(() -> engine.run(inputs)), expected);
                for (int i = 0; i < errors.length; i++) {
                    worst[i] = Math.max(worst[i], errors[i]);
                }
                error = largest(errors);
                result.put("max_abs_error", largest(worst));
                result.put("max_abs_errors", list(worst));
                checkErrors(errors, request);
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

    private static void checkErrors(double[] errors, BenchRequest request) throws IOException {
        for (int i = 0; i < errors.length; i++) {
            double most = request.expected().get(i).maxAbs();
            if (errors[i] > most) {
                String which = errors.length == 1 ? "the output" : "output " + (i + 1) + " of " + errors.length;
                throw new IOException(which + " is off by " + errors[i] + "; expected at most " + most);
            }
        }
    }

    private static double largest(double[] errors) {
        return Arrays.stream(errors).max().orElse(0);
    }

    private static List<Object> list(double[] values) {
        List<Object> out = new ArrayList<>();
        for (double value : values) {
            out.add(value);
        }
        return out;
    }

    /**
     * Largest difference of each output from what was expected.
     *
     * @throws IOException another number of outputs or of values, or a value that is not finite
     */
    static double[] maxAbsErrors(List<FloatTensor> outputs, List<FloatTensor> expected) throws IOException {
        if (outputs.size() != expected.size()) {
            throw new IOException(outputs.size() + " outputs came; expected " + expected.size());
        }
        double[] errors = new double[outputs.size()];
        for (int i = 0; i < errors.length; i++) {
            errors[i] = maxAbsError(errors.length == 1 ? "the output" : "output " + (i + 1), outputs.get(i),
                    expected.get(i));
        }
        return errors;
    }

    private static double maxAbsError(String which, FloatTensor output, FloatTensor expected) throws IOException {
        if (!Arrays.equals(output.shape(), expected.shape())) {
            throw new IOException(which + " is " + TensorForm.said(output.shape()) + "; expected "
                    + TensorForm.said(expected.shape()));
        }
        double worst = 0;
        for (int i = 0; i < output.data().capacity(); i++) {
            double error = Math.abs((double) output.data().get(i) - expected.data().get(i));
            if (!(error < Double.POSITIVE_INFINITY)) {
                throw new IOException("value " + i + " of " + which + " is " + output.data().get(i));
            }
            worst = Math.max(worst, error);
        }
        return worst;
    }
}
