package org.dualpix.demo.core;

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * What the host and this app write for each other: version 1 of the companion protocol, as JSON in files.
 *
 * <p>The host's side, and the description of it all, is {@code dualpix.capture.cameras.android.protocol}.
 */
public final class Messages {
    public static final int VERSION = 1;
    public static final String SESSION_EXTRA = "session";
    public static final String PLAN = "plan.json";
    public static final String CONTROL = "control.json";
    public static final String JOURNAL = "journal.jsonl";
    public static final String STACK = "stack.json";
    public static final int MAX_FRAMES = 999;
    public static final int MAX_ATTEMPT = 99;
    public static final long MAX_FRAME_BYTES = 512L << 20;
    static final int MAX_MESSAGE = 1000;

    private static final Pattern SESSION = Pattern.compile("[a-z0-9][a-z0-9-]{2,39}");
    private static final Pattern FILE = Pattern.compile("frame_(\\d{3})(?:_r([1-9]\\d?))?\\.(dng|jpg)");
    private static final Pattern SHA256 = Pattern.compile("[0-9a-f]{64}");
    private static final Pattern TIME = Pattern.compile("\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d{1,9})?Z");

    /** What Android says a reported focus distance is worth. */
    public enum Quality { CALIBRATED, APPROXIMATE, UNCALIBRATED }

    public enum LensState { STATIONARY, MOVING }

    public enum Command { STOP, RETRY }

    public enum FailureKind { BUSY, CAMERA, CAPTURE, FOCUS, PERMISSION, PLAN, STORAGE, THERMAL }

    public enum EndReason { COMPLETE, STOPPED, IDLE, FAILED }

    /** Has a form in JSON. */
    public interface Message {
        Map<String, Object> toJson();
    }

    /** A line of the journal. */
    public interface Line extends Message {}

    /** One frame that is wanted; null exposure, ISO or f-number: the phone chooses. */
    public record PlanFrame(int index, double diopters, double toleranceD, Long exposureNs, Integer iso, Double fNumber)
            implements Message {
        @Override
        public Map<String, Object> toJson() {
            return Json.object("index", index, "diopters", diopters, "tolerance_d", toleranceD, "exposure_ns",
                    exposureNs, "iso", iso, "f_number", fNumber);
        }
    }

    /** When the lens counts as being there. */
    public record SettleRule(int stationaryResults, int stuckResults, int timeoutMs, int retries) implements Message {
        public static final SettleRule USUAL = new SettleRule(2, 30, 2000, 2);

        @Override
        public Map<String, Object> toJson() {
            return Json.object("stationary_results", stationaryResults, "stuck_results", stuckResults, "timeout_ms",
                    timeoutMs, "retries", retries);
        }
    }

    /** What is wanted of a session; camera null: the main back camera. */
    public record Plan(String session, List<PlanFrame> frames, SettleRule settle, String cameraId, int lingerMs)
            implements Message {
        public Plan {
            checkSession(session);
            Set<Integer> indices = new HashSet<>();
            frames.forEach(frame -> indices.add(frame.index()));
            if (indices.size() != frames.size() || frames.size() > MAX_FRAMES) {
                throw new ProtocolException("plan of " + frames.size() + " frames",
                        "at most " + MAX_FRAMES + ", each index once");
            }
        }

        @Override
        public Map<String, Object> toJson() {
            return Json.object("version", VERSION, "session", session, "frames", listJson(frames), "settle",
                    settle.toJson(), "camera_id", cameraId, "linger_ms", lingerMs);
        }
    }

    /** What the host wants of a session that runs. */
    public record Control(String session, int sequence, Command command, Integer frame) implements Message {
        @Override
        public Map<String, Object> toJson() {
            return Json.object("version", VERSION, "session", session, "sequence", sequence, "command", word(command),
                    "frame", frame);
        }
    }

    /** The phone. */
    public record Device(String make, String model, String android, String serial) implements Message {
        @Override
        public Map<String, Object> toJson() {
            return Json.object("make", make, "model", model, "android", android, "serial", serial);
        }
    }

    /** The camera that is used, from its characteristics; sizes as (width, height). */
    public record PhoneCamera(
            String id,
            Quality calibration,
            double minFocusD,
            double focalLengthMm,
            double pixelPitchUm,
            List<Double> fNumbers,
            List<Long> arrayPx,
            List<Long> exposureRangeNs,
            List<Long> isoRange,
            boolean stabiliserOff,
            Double hyperfocalD)
            implements Message {
        @Override
        public Map<String, Object> toJson() {
            return Json.object("id", id, "calibration", calibration.name(), "min_focus_d", minFocusD, "focal_length_mm",
                    focalLengthMm, "pixel_pitch_um", pixelPitchUm, "f_numbers", fNumbers, "array_px", arrayPx,
                    "exposure_range_ns", exposureRangeNs, "iso_range", isoRange, "stabiliser_off", stabiliserOff,
                    "hyperfocal_d", hyperfocalD);
        }
    }

    /** First line of a journal. */
    public record Hello(String time, String session, String app, Device device, PhoneCamera camera) implements Line {
        @Override
        public Map<String, Object> toJson() {
            return Json.object("event", "hello", "version", VERSION, "time", time, "session", session, "app", app,
                    "device", device.toJson(), "camera", camera.toJson());
        }
    }

    /** The lens is sent on its way. */
    public record FrameStart(String time, int frame, int attempt) implements Line {
        @Override
        public Map<String, Object> toJson() {
            return Json.object("event", "start", "time", time, "frame", frame, "attempt", attempt);
        }
    }

    /** A frame is there, whole. */
    public record FrameDone(
            String time,
            int frame,
            int attempt,
            String file,
            long bytes,
            String sha256,
            double diopters,
            LensState lensState,
            int settleMs,
            int settleResults,
            long exposureNs,
            int iso,
            double fNumber,
            long timestampNs,
            String physicalId)
            implements Line {
        @Override
        public Map<String, Object> toJson() {
            Map<String, Object> out = new LinkedHashMap<>();
            out.put("event", "done");
            out.putAll(plain());
            return out;
        }

        /** As it stands in {@code stack.json}. */
        Map<String, Object> plain() {
            return Json.object("time", time, "frame", frame, "attempt", attempt, "file", file, "bytes", bytes, "sha256",
                    sha256, "diopters", diopters, "lens_state", word(lensState), "settle_ms", settleMs,
                    "settle_results", settleResults, "exposure_ns", exposureNs, "iso", iso, "f_number", fNumber,
                    "timestamp_ns", timestampNs, "physical_id", physicalId);
        }
    }

    /** A frame, or where there is none the session, did not work out. */
    public record Failure(String time, FailureKind kind, String message, Integer frame, int attempt) implements Line {
        public Failure {
            message = message.substring(0, Math.min(message.length(), MAX_MESSAGE));
        }

        @Override
        public Map<String, Object> toJson() {
            return Json.object("event", "failure", "time", time, "kind", word(kind), "message", message, "frame", frame,
                    "attempt", attempt);
        }
    }

    /** Last line of a journal. */
    public record End(String time, EndReason reason) implements Line {
        @Override
        public Map<String, Object> toJson() {
            return Json.object("event", "end", "time", time, "reason", word(reason));
        }
    }

    /**
     * The sidecar of a stack: who took it, and the last attempt of each frame in order of the index.
     *
     * <p>{@code details}, which readers may ignore, are what Android says besides of the camera and its settings.
     */
    public record Stack(String session, String app, Device device, PhoneCamera camera, List<FrameDone> frames,
            boolean complete, Map<String, Object> details) implements Message {
        @Override
        public Map<String, Object> toJson() {
            List<Object> done = new ArrayList<>();
            frames.forEach(frame -> done.add(frame.plain()));
            Map<String, Object> out = Json.object("version", VERSION, "session", session, "app", app, "device",
                    device.toJson(), "camera", camera.toJson(), "frames", done, "complete", complete);
            if (!details.isEmpty()) {
                out.put("details", details);
            }
            return out;
        }
    }

    private Messages() {}

    /** The word of a constant in JSON: its name in small letters. */
    public static String word(Enum<?> constant) {
        return constant.name().toLowerCase(Locale.ROOT);
    }

    /**
     * The name of a session, checked: it becomes a folder.
     *
     * @throws ProtocolException anything but 3 to 40 small letters, digits and hyphens
     */
    public static String checkSession(String name) {
        if (name == null || !SESSION.matcher(name).matches()) {
            throw new ProtocolException("session '" + name + "'", "3 to 40 small letters, digits and hyphens");
        }
        return name;
    }

    /** Name of a frame's file: {@code frame_007.dng}, {@code frame_007_r1.dng} for the second attempt. */
    public static String frameFile(int index, int attempt, String suffix) {
        return String.format(Locale.ROOT, "frame_%03d%s.%s", index, attempt > 0 ? "_r" + attempt : "", suffix);
    }

    /** A line of the journal with its line break. */
    public static String lineText(Line line) {
        return Json.write(line.toJson()) + "\n";
    }

    /** Reads {@code plan.json}; {@link ProtocolException} where it is not of this form, or of another version. */
    public static Plan parsePlan(byte[] utf8) {
        Fields f = versioned(utf8, PLAN);
        Fields settle = f.object("settle");
        List<PlanFrame> frames = new ArrayList<>();
        for (Fields frame : f.objects("frames", 0, MAX_FRAMES)) {
            frames.add(planFrame(frame));
        }
        return new Plan(f.text("session", SESSION), Collections.unmodifiableList(frames),
                new SettleRule(settle.count("stationary_results", 1, 100), settle.count("stuck_results", 1, 10_000),
                        settle.count("timeout_ms", 1, 60_000), settle.count("retries", 0, 100)),
                f.optional("camera_id", f::text), f.count("linger_ms", 0, 3_600_000));
    }

    /** Reads {@code control.json}; {@link ProtocolException} as {@link #parsePlan}. */
    public static Control parseControl(byte[] utf8) {
        Fields f = versioned(utf8, CONTROL);
        Command command = f.oneOf("command", Command.values());
        Integer frame = f.optional("frame", key -> f.count(key, 0, MAX_FRAMES));
        if ((command == Command.RETRY) != (frame != null)) {
            throw new ProtocolException(CONTROL + ": '" + word(command) + "' with frame " + frame,
                    "a frame for retry alone");
        }
        return new Control(f.text("session", SESSION), f.count("sequence", 1, 1_000_000_000), command, frame);
    }

    /** Reads one line of the journal; {@link ProtocolException} where it is not of this form. */
    public static Line parseLine(byte[] utf8) {
        Fields f = Fields.parse(utf8, JOURNAL);
        String event = f.oneOf("event", "hello", "start", "done", "failure", "end");
        switch (event) {
            case "hello":
                checkVersion(f);
                return new Hello(f.text("time", TIME), f.text("session", SESSION), f.text("app"),
                        device(f.object("device")), camera(f.object("camera")));
            case "start":
                return new FrameStart(f.text("time", TIME), f.count("frame", 0, MAX_FRAMES),
                        f.count("attempt", 0, MAX_ATTEMPT));
            case "done":
                return done(f);
            case "failure":
                return new Failure(f.text("time", TIME), f.oneOf("kind", FailureKind.values()), f.text("message"),
                        f.optional("frame", key -> f.count(key, 0, MAX_FRAMES)), f.count("attempt", 0, MAX_ATTEMPT));
            default:
                return new End(f.text("time", TIME), f.oneOf("reason", EndReason.values()));
        }
    }

    /** Reads {@code stack.json}; {@link ProtocolException} as {@link #parsePlan}. */
    public static Stack parseStack(byte[] utf8) {
        Fields f = versioned(utf8, STACK);
        List<FrameDone> frames = new ArrayList<>();
        for (Fields frame : f.objects("frames", 0, MAX_FRAMES)) {
            frames.add(done(frame));
        }
        return new Stack(f.text("session", SESSION), f.text("app"), device(f.object("device")),
                camera(f.object("camera")), Collections.unmodifiableList(frames), f.flag("complete"),
                Collections.emptyMap());
    }

    /** A device from its JSON. */
    public static Device device(Fields f) {
        return new Device(f.text("make"), f.text("model"), f.text("android"), f.optional("serial", f::text));
    }

    /** A camera from its JSON. */
    public static PhoneCamera camera(Fields f) {
        return new PhoneCamera(f.text("id"), Quality.valueOf(f.oneOf("calibration", names(Quality.values()))),
                f.number("min_focus_d", 0, 1000), f.number("focal_length_mm", 0.1, 1000),
                f.number("pixel_pitch_um", 0.1, 100), f.numbers("f_numbers", 1, 32, 0, 1e15), pair(f, "array_px"),
                pair(f, "exposure_range_ns"), pair(f, "iso_range"), f.flag("stabiliser_off"),
                f.optional("hyperfocal_d", key -> f.number(key, 0, 1000)));
    }

    private static PlanFrame planFrame(Fields f) {
        return new PlanFrame(f.count("index", 0, MAX_FRAMES), f.number("diopters", 0, 1000),
                f.number("tolerance_d", 0, 1000), f.optional("exposure_ns", key -> f.whole(key, 1, 1_000_000_000_000L)),
                f.optional("iso", key -> f.count(key, 1, 10_000_000)),
                f.optional("f_number", key -> f.number(key, 0.1, 1000)));
    }

    private static FrameDone done(Fields f) {
        FrameDone done = new FrameDone(f.text("time", TIME), f.count("frame", 0, MAX_FRAMES),
                f.count("attempt", 0, MAX_ATTEMPT), f.text("file", FILE), f.whole("bytes", 1, MAX_FRAME_BYTES),
                f.text("sha256", SHA256), f.number("diopters", 0, 1000), f.oneOf("lens_state", LensState.values()),
                f.count("settle_ms", 0, 3_600_000), f.count("settle_results", 0, 1_000_000),
                f.whole("exposure_ns", 1, 1_000_000_000_000L), f.count("iso", 1, 10_000_000),
                f.number("f_number", 0.1, 1000), f.whole("timestamp_ns", 0, Long.MAX_VALUE),
                f.optional("physical_id", f::text));
        String suffix = done.file().substring(done.file().length() - 3);
        if (!frameFile(done.frame(), done.attempt(), suffix).equals(done.file())) {
            throw new ProtocolException(
                    JOURNAL + ": frame " + done.frame() + ", attempt " + done.attempt()
                            + ", lies in '" + done.file() + "'");
        }
        return done;
    }

    private static List<Long> pair(Fields f, String key) {
        return f.wholes(key, 2, 2, 0, 1_000_000_000_000_000L);
    }

    private static String[] names(Enum<?>[] constants) {
        String[] out = new String[constants.length];
        for (int i = 0; i < out.length; i++) {
            out[i] = constants[i].name();
        }
        return out;
    }

    private static Fields versioned(byte[] utf8, String where) {
        Fields f = Fields.parse(utf8, where);
        checkVersion(f);
        return f;
    }

    private static void checkVersion(Fields f) {
        int version = f.count("version", 0, 1_000_000);
        if (version != VERSION) {
            throw new ProtocolException("the host speaks version " + version,
                    "version " + VERSION + ": install the app that belongs to this dualpix");
        }
    }

    private static List<Object> listJson(List<? extends Message> messages) {
        List<Object> out = new ArrayList<>();
        messages.forEach(message -> out.add(message.toJson()));
        return out;
    }
}
