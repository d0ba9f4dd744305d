package org.dualpix.demo.desktop;

import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import org.dualpix.demo.core.AppFiles;
import org.dualpix.demo.core.BenchRunner;
import org.dualpix.demo.core.CaptureSession;
import org.dualpix.demo.core.Clock;
import org.dualpix.demo.core.Fields;
import org.dualpix.demo.core.Folders;
import org.dualpix.demo.core.InferenceEngine;
import org.dualpix.demo.core.Json;
import org.dualpix.demo.core.Messages;
import org.dualpix.demo.core.ProtocolException;
import org.dualpix.demo.core.Shown;
import org.dualpix.demo.core.StackDepth;

/**
 * The app's activities as commands.
 *
 * <pre>
 * Main --root FILES [--camera SCRIPT --frames DIR [--state FILE]] [--engine SCRIPT] capture SESSION
 * Main --root FILES ... bench RUN
 * Main --root FILES ... [--sure-only yes] depth SESSION
 * Main --root FILES --engine SCRIPT [--sure-only yes] live NAME
 * Main --root FILES ... serve
 * </pre>
 *
 * <p>{@code FILES} is the folder that the app has on a phone. {@code serve} reads {@code capture SESSION}, {@code bench
 * RUN}, {@code depth SESSION} and {@code quit} from its input, line by line, and answers each with a line of JSON once it
 * has started; a capture ends the one before, as on the phone. {@code live} is {@link LiveRun}. An engine's script with a
 * {@code command} starts a process with a real runtime ({@link HostEngine}), any other is played ({@link
 * ScriptedEngine}). Exit codes: 0; 1 where the session, the benchmark or a network failed; 2 for wrong arguments.
 */
public final class Main {
    private static final String APP = "1.0-desktop";
    private static final int MAX_SCRIPT_BYTES = 1 << 20;

    private final File files;
    private final File engineScript;
    private final boolean sureOnly;
    private final ScriptedCamera camera;
    private CaptureSession session;
    private Thread worker;

    private Main(Map<String, String> options) throws IOException {
        files = file(options, "--root");
        engineScript = file(options, "--engine");
        sureOnly = "yes".equals(options.get("--sure-only"));
        File cameraScript = file(options, "--camera");
        File frames = options.get("--frames") == null ? files : file(options, "--frames");
        camera = cameraScript == null ? null
                : new ScriptedCamera(cameraScript, frames, file(options, "--state"), Clock.SYSTEM);
    }

    public static void main(String[] arguments) {
        int code = 2;
        try {
            Map<String, String> options = new HashMap<>();
            int at = 0;
            for (; at + 1 < arguments.length && arguments[at].startsWith("--"); at += 2) {
                options.put(arguments[at], arguments[at + 1]);
            }
            if (options.get("--root") == null || at == arguments.length) {
                throw new ProtocolException("the arguments", "--root FILES ... capture SESSION | bench RUN | serve");
            }
            Main main = new Main(options);
            code = arguments[at].equals("serve") ? main.serve()
                    : main.command(arguments[at], at + 1 < arguments.length ? arguments[at + 1] : "");
        } catch (IOException | RuntimeException error) {
            System.err.println("error: " + error.getMessage());
        }
        System.exit(code);
    }

    private int command(String command, String name) throws IOException {
        switch (command) {
            case "capture":
                return newSession(name).run() == Messages.EndReason.FAILED ? 1 : 0;
            case "bench":
                return bench(name) ? 0 : 1;
            case "depth":
                return depth(name) ? 0 : 1;
            case "live":
                try (InferenceEngine engine = engine()) {
                    return new LiveRun(files, name, engine, sureOnly).run(files) ? 0 : 1;
                }
            default:
                throw new ProtocolException("command '" + command + "'", "capture, bench, depth, live or serve");
        }
    }

    private int serve() throws IOException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        System.out.println(Json.write(Json.object("ready", true)));
        String line;
        while ((line = in.readLine()) != null && !line.equals("quit")) {
            String[] words = line.trim().split(" ", 2);
            String error = null;
            try {
                start(words[0], words.length > 1 ? words[1] : "");
            } catch (IOException | RuntimeException bad) {
                error = bad.getMessage();
            }
            System.out.println(Json.write(Json.object("started", line, "error", error)));
        }
        end();
        return 0;
    }

    /** What an intent does. */
    private void start(String command, String name) throws IOException {
        if (command.equals("capture")) {
            end();
            CaptureSession next = newSession(name);
            session = next;
            worker = new Thread(() -> quietly(next::run));
            worker.start();
        } else if (command.equals("bench")) {
            AppFiles.bench(files, name);
            new Thread(() -> quietly(() -> bench(name))).start();
        } else if (command.equals("depth")) {
            AppFiles.session(files, name);
            new Thread(() -> quietly(() -> depth(name))).start();
        } else {
            throw new ProtocolException("command '" + command + "'", "capture, bench, depth or quit");
        }
    }

    private void end() {
        if (session == null) {
            return;
        }
        session.cancel();
        try {
            worker.join();
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
        session = null;
    }

    private CaptureSession newSession(String name) {
        if (camera == null) {
            throw new ProtocolException("no camera", "--camera SCRIPT and --frames DIR");
        }
        return new CaptureSession(
                AppFiles.session(files, name), camera, camera.device(), APP, Clock.SYSTEM, line -> { });
    }

    private boolean bench(String run) throws IOException {
        if (camera == null) {
            throw new ProtocolException("no device", "--camera SCRIPT");
        }
        BenchRunner runner = new BenchRunner(engine(), new DesktopProbe(camera.device()), APP, what -> { });
        return runner.run(AppFiles.bench(files, run)).get("error") == null;
    }

    /** What {@code DepthActivity} does: takes the stack where it is not there yet, and finds its depth. */
    private boolean depth(String name) throws IOException {
        File folder = AppFiles.session(files, name);
        if (!StackDepth.isTaken(folder)) {
            newSession(name).run();
        }
        try (InferenceEngine engine = engine()) {
            StackDepth.Found found = StackDepth.run(folder, AppFiles.models(files), engine, APP, 1);
            Shown shown = found.shown(sureOnly);
            Pictures.write(new File(folder, "depth.png"), Pictures.over(found.picture(), shown.argb()), shown.width(),
                    shown.height());
        }
        return true;
    }

    private InferenceEngine engine() throws IOException {
        if (engineScript == null) {
            throw new ProtocolException("no engine", "--engine SCRIPT");
        }
        Fields script = Fields.parse(Folders.read(engineScript, MAX_SCRIPT_BYTES), engineScript.getName());
        return script.has("command") ? new HostEngine(script.texts("command", 1, 16))
                : new ScriptedEngine(engineScript, Clock.SYSTEM);
    }

    private interface Work {
        Object now() throws IOException;
    }

    private static void quietly(Work work) {
        try {
            work.now();
        } catch (IOException | RuntimeException error) {
            System.err.println("error: " + error.getMessage());
        }
    }

    private static File file(Map<String, String> options, String name) {
        return options.get(name) == null ? null : new File(options.get(name));
    }
}
