package org.dualpix.demo.core;

import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Pattern;

/**
 * What the host wants measured: {@code request.json} in the folder of a run, beside the files that it names.
 *
 * @param recipe how the model was made, for the report; may be null
 * @param expected what each output must be, in order, before anything is timed
 */
public record BenchRequest(String runId, String model, String sha256, String recipe, List<Blob> inputs,
        List<Expected> expected, List<Long> threads, int warmup, int runs) {
    public static final int FORMAT = 2;
    /** Of the result: that of profiles. */
    static final int RESULT_FORMAT = 1;
    public static final String REQUEST = "request.json";
    public static final String RESULT = "result.json";
    public static final String RUN_EXTRA = "run";
    private static final int MAX_BYTES = 1 << 20;
    private static final long MAX_MODEL_BYTES = 1L << 30;
    private static final Pattern SHA256 = Pattern.compile("[0-9a-f]{64}");

    /** A file of raw little-endian float32 and its shape. */
    public record Blob(String file, List<Long> shape) {
        FloatTensor read(File folder) throws IOException {
            return FloatTensor.read(child(folder, file, FloatTensor.MAX_BYTES),
                    shape.stream().mapToLong(Long::longValue).toArray());
        }

        static Blob parse(Fields f) {
            return new Blob(f.text("file"), f.wholes("shape", 0, 8, 1, 1 << 28));
        }
    }

    /** An output that is to come, each value within {@code maxAbs}. */
    public record Expected(Blob blob, double maxAbs) {
        static Expected parse(Fields f) {
            return new Expected(Blob.parse(f), f.number("max_abs", 0, 1e9));
        }
    }

    /**
     * Reads the request in the folder of a run.
     *
     * @throws ProtocolException it is not of this form, of another format, or of another run than the folder
     * @throws IOException it cannot be read
     */
    public static BenchRequest read(File folder) throws IOException {
        Fields f = Fields.parse(Folders.read(new File(folder, REQUEST), MAX_BYTES), REQUEST);
        int format = f.count("format", 0, 1_000_000);
        if (format != FORMAT) {
            throw new ProtocolException(REQUEST + " is of format " + format,
                    "format " + FORMAT + ": install the app that belongs to this dualpix");
        }
        List<Blob> inputs = new ArrayList<>();
        for (Fields input : f.objects("inputs", 1, 16)) {
            inputs.add(Blob.parse(input));
        }
        List<Expected> expected = new ArrayList<>();
        for (Fields output : f.objects("expected", 1, 16)) {
            expected.add(Expected.parse(output));
        }
        BenchRequest request = new BenchRequest(Messages.checkSession(f.text("run_id")), f.text("model"),
                f.text("sha256", SHA256), f.optional("recipe", f::text), inputs, expected,
                f.wholes("threads", 1, 8, 1, 64), f.count("warmup", 0, 1000),
                f.count("runs", 1, 10_000));
        if (!request.runId.equals(folder.getName())) {
            throw new ProtocolException(REQUEST + ": run_id is '" + request.runId + "'", folder.getName());
        }
        return request;
    }

    /** The model, if it is the one that was meant; {@link IOException} otherwise. */
    File modelIn(File folder) throws IOException {
        File file = child(folder, model, MAX_MODEL_BYTES);
        String found = Folders.sha256(file);
        if (!found.equals(sha256)) {
            throw new IOException("'" + model + "' has digest " + found.substring(0, 12) + "; expected "
                    + sha256.substring(0, 12));
        }
        return file;
    }

    private static File child(File folder, String name, long mostBytes) throws IOException {
        File file = Folders.child(folder, name);
        if (!file.isFile()) {
            throw new IOException("no file '" + name + "' in the folder of the run");
        }
        if (file.length() > mostBytes) {
            throw new IOException("'" + name + "' has " + file.length() + " bytes; expected at most " + mostBytes);
        }
        return file;
    }
}
