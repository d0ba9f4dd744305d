package org.dualpix.demo.desktop;

import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.io.Writer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.dualpix.demo.core.Fields;
import org.dualpix.demo.core.FloatTensor;
import org.dualpix.demo.core.Folders;
import org.dualpix.demo.core.InferenceEngine;
import org.dualpix.demo.core.Json;

/**
 * Real programs in a process beside this one, which has ExecuTorch's runtime: {@code double/host_engine.py}.
 *
 * <p>It is told and answers by lines of JSON: {@code {"load": FILE, "threads": N}} gives {@code backends} and {@code
 * runtime}; {@code {"inputs": [{file, shape, dtype}, ...], "folder": FOLDER}} gives {@code outputs} in the same form;
 * either may give {@code error} instead. Values lie in the folder as raw little-endian float32, whatever the type.
 */
final class HostEngine implements InferenceEngine {
    private static final int MOST_TENSORS = 16;

    private final List<String> command;
    private final Path folder;
    private Process process;
    private Writer in;
    private BufferedReader out;
    private List<String> backends = Collections.emptyList();
    private String runtime = "";
    private boolean loaded;

    HostEngine(List<String> command) throws IOException {
        this.command = command;
        folder = Files.createTempDirectory("dualpix-host-engine");
        folder.toFile().deleteOnExit();
    }

    @Override
    public void load(File model, int threads) throws IOException {
        close(); // the thread pool of a process cannot be changed
        process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        in = new OutputStreamWriter(process.getOutputStream(), StandardCharsets.UTF_8);
        out = new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8));
        Fields said = ask(Json.object("load", model.getAbsolutePath(), "threads", threads));
        List<String> names = new ArrayList<>();
        for (Fields backend : said.objects("backends", 0, MOST_TENSORS)) {
            names.add(backend.text("name"));
        }
        backends = names;
        runtime = said.text("runtime");
        loaded = true;
    }

    @Override
    public List<String> backends() {
        return backends;
    }

    @Override
    public List<FloatTensor> run(List<FloatTensor> inputs) throws IOException {
        if (!loaded) {
            throw new IOException("no network is loaded");
        }
        List<Object> given = new ArrayList<>();
        for (FloatTensor input : inputs) {
            String name = "input_" + given.size() + ".bin";
            File file = folder.resolve(name).toFile();
            input.write(file);
            file.deleteOnExit();
            List<Object> shape = new ArrayList<>();
            for (long size : input.shape()) {
                shape.add(size);
            }
            given.add(Json.object("file", name, "shape", shape, "dtype", input.type().name().toLowerCase(Locale.ROOT)));
        }
        List<FloatTensor> outputs = new ArrayList<>();
        for (Fields output : ask(Json.object("inputs", given, "folder", folder.toString()))
                .objects("outputs", 0, MOST_TENSORS)) {
            File file = Folders.child(folder.toFile(), output.text("file"));
            file.deleteOnExit();
            long[] shape = output.wholes("shape", 0, 8, 1, 1 << 28).stream().mapToLong(Long::longValue).toArray();
            outputs.add(FloatTensor.read(file, shape).as(output.oneOf("dtype", FloatTensor.Type.values())));
        }
        return outputs;
    }

    @Override
    public String runtime() {
        return runtime;
    }

    @Override
    public void close() {
        loaded = false;
        if (process != null) {
            process.destroy();
            process = null;
        }
    }

    private Fields ask(Map<String, Object> question) throws IOException {
        in.write(Json.write(question) + "\n");
        in.flush();
        String line = out.readLine();
        if (line == null) {
            throw new IOException("the process with the runtime has ended");
        }
        Fields answer = Fields.parse(line.getBytes(StandardCharsets.UTF_8), "the answer of the runtime");
        String error = answer.optional("error", answer::text);
        if (error != null) {
            throw new IOException(error);
        }
        return answer;
    }
}
