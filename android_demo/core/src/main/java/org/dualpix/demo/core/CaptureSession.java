package org.dualpix.demo.core;

import java.io.File;
import java.io.IOException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import org.dualpix.demo.core.CameraPort.Aim;
import org.dualpix.demo.core.CameraPort.Metered;
import org.dualpix.demo.core.CameraPort.RawImage;
import org.dualpix.demo.core.Messages.Command;
import org.dualpix.demo.core.Messages.Control;
import org.dualpix.demo.core.Messages.Device;
import org.dualpix.demo.core.Messages.End;
import org.dualpix.demo.core.Messages.EndReason;
import org.dualpix.demo.core.Messages.Failure;
import org.dualpix.demo.core.Messages.FailureKind;
import org.dualpix.demo.core.Messages.FrameDone;
import org.dualpix.demo.core.Messages.FrameStart;
import org.dualpix.demo.core.Messages.Hello;
import org.dualpix.demo.core.Messages.Line;
import org.dualpix.demo.core.Messages.PhoneCamera;
import org.dualpix.demo.core.Messages.Plan;
import org.dualpix.demo.core.Messages.PlanFrame;
import org.dualpix.demo.core.Messages.Stack;

/**
 * A session of the companion protocol: works through {@code plan.json} in its folder, obeys {@code control.json}, and
 * writes the journal, the frames and {@code stack.json}. Whoever wrote the plan, the host or this app, it is the same.
 */
public final class CaptureSession {
    private static final long POLL_MS = 20;
    private static final int MAX_PLAN_BYTES = 1 << 20;
    private static final double REACH_SLACK_D = 1e-3;

    /** Follows what happens, on the thread of the session. */
    public interface Listener {
        void said(Line line);
    }

    private final File folder;
    private final CameraPort port;
    private final Device device;
    private final String app;
    private final Clock clock;
    private final Listener listener;
    private final Map<Integer, FrameDone> done = new TreeMap<>();
    private volatile boolean over;
    private int seenControl;
    private long nextLook;
    private Control waiting;
    private Metered metered;

    /**
     * A session in {@code folder}, which bears its name.
     *
     * @param app version of the app
     */
    public CaptureSession(File folder, CameraPort port, Device device, String app, Clock clock, Listener listener) {
        this.folder = folder;
        this.port = port;
        this.device = device;
        this.app = app;
        this.clock = clock;
        this.listener = listener;
    }

    /** Ends it soon, from any thread. */
    public void cancel() {
        over = true;
    }

    /**
     * Runs it to its end; the camera is closed then.
     *
     * @throws IOException the folder cannot be written, so nobody can be told either
     */
    public EndReason run() throws IOException {
        try {
            EndReason reason;
            try {
                reason = runOpen();
            } catch (RuntimeException bug) { // in a driver or in here: whoever waits is told
                say(new Failure(clock.utc(), FailureKind.CAMERA, "the app failed: " + bug, null, 0));
                reason = EndReason.FAILED;
            }
            port.close(); // before the last line: whoever reads it may take the camera
            say(new End(clock.utc(), reason));
            return reason;
        } finally {
            port.close();
        }
    }

    private EndReason runOpen() throws IOException {
        Plan plan;
        Hello hello;
        try {
            plan = readPlan();
            PhoneCamera camera = port.describe(plan.cameraId());
            hello = new Hello(clock.utc(), plan.session(), app, device, camera);
            say(hello);
            if (plan.frames().isEmpty()) {
                return EndReason.COMPLETE;
            }
            check(plan, camera);
            port.open();
        } catch (CameraFault fault) {
            say(new Failure(clock.utc(), fault.kind(), fault.getMessage(), null, 0));
            return EndReason.FAILED;
        }
        EndReason reason = work(plan, hello.camera());
        boolean complete = done.size() == plan.frames().size();
        Stack stack = new Stack(plan.session(), app, device, hello.camera(), new ArrayList<>(done.values()), complete,
                port.details());
        Folders.write(new File(folder, Messages.STACK), Json.write(stack.toJson()));
        return reason;
    }

    private Plan readPlan() throws CameraFault {
        try {
            if (new File(folder, Messages.JOURNAL).length() > 0) {
                throw new CameraFault(FailureKind.PLAN, "session '" + folder.getName() + "' ran before");
            }
            Plan plan = Messages.parsePlan(Folders.read(new File(folder, Messages.PLAN), MAX_PLAN_BYTES));
            if (!plan.session().equals(folder.getName())) {
                throw new CameraFault(FailureKind.PLAN, "the plan is of session '" + plan.session() + "'");
            }
            return plan;
        } catch (IOException | ProtocolException error) {
            throw new CameraFault(FailureKind.PLAN, error.getMessage());
        }
    }

    private static void check(Plan plan, PhoneCamera camera) throws CameraFault {
        for (PlanFrame frame : plan.frames()) {
            String bad = null;
            if (camera.minFocusD() <= 0) {
                bad = "camera " + camera.id() + " has a fixed focus";
            } else if (frame.diopters() > camera.minFocusD() + REACH_SLACK_D) {
                bad = String.format(Locale.ROOT, "%.3f is nearer than the lens goes, %.3f", frame.diopters(),
                        camera.minFocusD());
            } else if (frame.exposureNs() != null && !within(frame.exposureNs(), camera.exposureRangeNs().get(0),
                    camera.exposureRangeNs().get(1))) {
                bad = frame.exposureNs() + " ns of exposure are out of " + camera.exposureRangeNs();
            } else if (frame.iso() != null
                    && !within(frame.iso(), camera.isoRange().get(0), camera.isoRange().get(1))) {
                bad = "ISO " + frame.iso() + " is out of " + camera.isoRange();
            } else if (frame.fNumber() != null
                    && camera.fNumbers().stream().noneMatch(n -> Math.abs(n - frame.fNumber()) < 0.01 * n)) {
                bad = "f/" + frame.fNumber() + " is none of " + camera.fNumbers();
            }
            if (bad != null) {
                throw new CameraFault(FailureKind.PLAN, "frame " + frame.index() + ": " + bad);
            }
        }
    }

    private EndReason work(Plan plan, PhoneCamera camera) throws IOException {
        Map<Integer, PlanFrame> frames = new LinkedHashMap<>();
        Map<Integer, Integer> attempts = new LinkedHashMap<>();
        for (PlanFrame frame : plan.frames()) {
            frames.put(frame.index(), frame);
            attempts.put(frame.index(), 0);
        }
        Deque<Integer> pending = new ArrayDeque<>(frames.keySet());
        boolean paused = false;
        long idleUntil = 0;
        while (!over) {
            Control control = control(plan.session());
            if (control != null && control.command() == Command.STOP) {
                return done.size() == frames.size() ? EndReason.COMPLETE : EndReason.STOPPED;
            }
            if (control != null && frames.containsKey(control.frame())) {
                int attempt = attempts.get(control.frame()) + 1;
                if (attempt > Messages.MAX_ATTEMPT) {
                    say(new Failure(clock.utc(), FailureKind.PLAN, "no more attempts", control.frame(), attempt - 1));
                    return EndReason.FAILED;
                }
                attempts.put(control.frame(), attempt);
                pending.remove(control.frame());
                pending.addFirst(control.frame());
                paused = false;
            } else if (!pending.isEmpty() && !paused) {
                int index = pending.removeFirst();
                try {
                    paused = !frame(plan, camera, frames.get(index), attempts.get(index));
                } catch (FrameTaker.Interrupted stopped) {
                    continue; // the loop finds out why
                } catch (CameraFault fault) {
                    return EndReason.FAILED;
                }
                idleUntil = clock.millis() + plan.lingerMs();
            } else if (clock.millis() >= idleUntil) {
                boolean all = plan.lingerMs() == 0 && done.size() == frames.size();
                return all ? EndReason.COMPLETE : EndReason.IDLE;
            } else {
                clock.sleep(POLL_MS);
            }
        }
        return EndReason.STOPPED;
    }

    /** Takes a frame; whether it worked. Faults that end the session are thrown on. */
    private boolean frame(Plan plan, PhoneCamera camera, PlanFrame frame, int attempt)
            throws IOException, CameraFault, FrameTaker.Interrupted {
        say(new FrameStart(clock.utc(), frame.index(), attempt));
        try {
            String warning = port.warning();
            if (warning != null) {
                throw new CameraFault(FailureKind.THERMAL, warning);
            }
            FrameTaker taker = new FrameTaker(port, clock, plan.settle(), () -> over || stopWaits(plan.session()));
            FrameTaker.Taken taken = taker.take(aim(frame, camera), frame.toleranceD());
            FrameDone line;
            try (RawImage image = taken.image()) {
                line = store(frame, attempt, taken, image);
            }
            done.put(frame.index(), line);
            say(line);
            return true;
        } catch (CameraFault fault) {
            say(new Failure(clock.utc(), fault.kind(), fault.getMessage(), frame.index(), attempt));
            if (fault.ends()) {
                throw fault;
            }
            return false;
        }
    }

    private FrameDone store(PlanFrame frame, int attempt, FrameTaker.Taken taken, RawImage image) throws CameraFault {
        String name = Messages.frameFile(frame.index(), attempt, "dng");
        CameraPort.Report report = taken.report();
        try {
            Folders.Written written =
                    Folders.write(new File(folder, name), out -> image.write(report, out));
            return new FrameDone(clock.utc(), frame.index(), attempt, name, written.bytes(), written.sha256(),
                    report.diopters(), Messages.LensState.STATIONARY, taken.settleMs(), taken.settleResults(),
                    report.exposureNs(), report.iso(), report.fNumber(), report.timestampNs(), report.physicalId());
        } catch (IOException error) {
            throw new CameraFault(FailureKind.STORAGE, "'" + name + "' cannot be written: " + error.getMessage());
        }
    }

    private Aim aim(PlanFrame frame, PhoneCamera camera) throws CameraFault {
        if (metered == null && (frame.exposureNs() == null || frame.iso() == null)) {
            metered = port.meter();
        }
        int iso = frame.iso() != null ? frame.iso() : isoFor(frame.exposureNs(), camera);
        long exposureNs = frame.exposureNs() != null ? frame.exposureNs() : exposureFor(iso, camera);
        double fNumber = frame.fNumber() != null ? frame.fNumber() : camera.fNumbers().get(0);
        return new Aim(Math.min(frame.diopters(), camera.minFocusD()), exposureNs, iso, fNumber);
    }

    /** The metered ISO; where the exposure was given, what makes up for it. */
    private int isoFor(Long exposureNs, PhoneCamera camera) {
        double iso = exposureNs == null ? metered.iso() : (double) metered.iso() * metered.exposureNs() / exposureNs;
        return (int) Math.max(camera.isoRange().get(0), Math.min(camera.isoRange().get(1), Math.round(iso)));
    }

    private long exposureFor(int iso, PhoneCamera camera) {
        long exposure = Math.round((double) metered.exposureNs() * metered.iso() / iso);
        return Math.max(camera.exposureRangeNs().get(0), Math.min(camera.exposureRangeNs().get(1), exposure));
    }

    private boolean stopWaits(String session) {
        if (waiting == null && clock.millis() >= nextLook) {
            nextLook = clock.millis() + POLL_MS;
            waiting = control(session);
        }
        return waiting != null && waiting.command() == Command.STOP;
    }

    private Control control(String session) {
        if (waiting != null) {
            Control found = waiting;
            waiting = null;
            return found;
        }
        File file = new File(folder, Messages.CONTROL);
        if (!file.exists()) {
            return null;
        }
        try {
            Control control = Messages.parseControl(Folders.read(file, MAX_PLAN_BYTES));
            if (!control.session().equals(session) || control.sequence() <= seenControl) {
                return null;
            }
            seenControl = control.sequence();
            return control;
        } catch (IOException | ProtocolException error) {
            return null; // as if it had not been written; the host writes it whole
        }
    }

    private void say(Line line) throws IOException {
        Folders.append(new File(folder, Messages.JOURNAL), Messages.lineText(line));
        listener.said(line);
    }

    private static boolean within(long value, long low, long high) {
        return value >= low && value <= high;
    }
}
