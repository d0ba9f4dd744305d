package org.dualpix.demo.core;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.dualpix.demo.core.Messages.Command;
import org.dualpix.demo.core.Messages.Control;
import org.dualpix.demo.core.Messages.EndReason;
import org.dualpix.demo.core.Messages.Failure;
import org.dualpix.demo.core.Messages.FailureKind;
import org.dualpix.demo.core.Messages.FrameDone;
import org.dualpix.demo.core.Messages.Hello;
import org.dualpix.demo.core.Messages.Line;
import org.dualpix.demo.core.Messages.Plan;
import org.dualpix.demo.core.Messages.PlanFrame;
import org.dualpix.demo.core.Messages.SettleRule;
import org.junit.Before;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;

/** Whole sessions in a folder, read back as the host reads them. */
public class CaptureSessionTest {
    @Rule public final TemporaryFolder temporary = new TemporaryFolder();

    private final FakePort port = new FakePort();
    private File folder;
    private CaptureSession session;

    @Before
    public void makeFolder() throws IOException {
        folder = temporary.newFolder("take-1");
    }

    private EndReason run(Plan plan) throws IOException {
        Folders.write(new File(folder, Messages.PLAN), Json.write(plan.toJson()));
        return run();
    }

    private EndReason run() throws IOException {
        Messages.Device device = new Messages.Device("dualpix", "Fake", "16", null);
        session = new CaptureSession(folder, port, device, "1.0", port.clock, line -> { });
        return session.run();
    }

    private static Plan plan(int lingerMs, double... stops) {
        Plan plan = FocusPlan.plan("take-1", stops, null, lingerMs);
        return new Plan("take-1", plan.frames(), new SettleRule(2, 10, 1000, 1), null, lingerMs);
    }

    private List<Line> journal() throws IOException {
        List<Line> out = new ArrayList<>();
        for (String line : text(Messages.JOURNAL).split("\n")) {
            out.add(Messages.parseLine(line.getBytes(StandardCharsets.UTF_8)));
        }
        return out;
    }

    private String text(String name) throws IOException {
        return new String(Folders.read(new File(folder, name), 1 << 20), StandardCharsets.UTF_8);
    }

    private String events() throws IOException {
        StringBuilder out = new StringBuilder();
        for (Line line : journal()) {
            Object frame = line.toJson().get("frame");
            out.append(line.toJson().get("event")).append(frame == null ? "" : frame).append(' ');
        }
        return out.toString().trim();
    }

    private Failure failure() throws IOException {
        return (Failure) journal().stream().filter(line -> line instanceof Failure).findFirst().get();
    }

    /** Writes a control the first time that the journal holds {@code after}. */
    private void control(String after, int sequence, Command command, Integer frame) {
        port.clock.onSleep.add(() -> {
            try {
                File file = new File(folder, Messages.CONTROL);
                boolean said = new File(folder, Messages.JOURNAL).exists() && text(Messages.JOURNAL).contains(after);
                boolean newer = !file.exists() || Messages.parseControl(Folders.read(file, 4096)).sequence() < sequence;
                if (said && newer) {
                    Folders.write(file, Json.write(new Control("take-1", sequence, command, frame).toJson()));
                }
            } catch (IOException error) {
                throw new AssertionError(error);
            }
        });
    }

    @Test
    public void aPlanIsWorkedThroughInItsOrder() throws IOException {
        assertEquals(EndReason.COMPLETE, run(plan(0, 0, 0.5, 2.25)));
        assertEquals("hello start0 done0 start1 done1 start2 done2 end", events());
        FrameDone done = (FrameDone) journal().get(4);
        File file = new File(folder, done.file());
        assertEquals("frame_001.dng", done.file());
        assertEquals(file.length(), done.bytes());
        assertEquals(Folders.sha256(file), done.sha256());
        assertEquals(0.501, done.diopters(), 1e-9);
        assertEquals("metered once", 1, port.count("meter"));
        assertEquals(10_000_000, done.exposureNs());
        assertEquals(0, port.openImages);
        Messages.Stack stack = Messages.parseStack(Folders.read(new File(folder, Messages.STACK), 1 << 20));
        assertTrue(stack.complete());
        assertEquals(3, stack.frames().size());
        assertEquals(Messages.Quality.APPROXIMATE, stack.camera().calibration());
        assertTrue(text(Messages.STACK).contains("lens_focus_range_d"));
    }

    @Test
    public void aPlanWithoutFramesAsksWhoIsThere() throws IOException {
        assertEquals(EndReason.COMPLETE, run(plan(0)));
        assertEquals("hello end", events());
        assertEquals("take-1", ((Hello) journal().get(0)).session());
        assertEquals("the camera is left alone", 0, port.count("open"));
    }

    @Test
    public void theHostStopsIt() throws IOException {
        control("\"frame\": 1", 1, Command.STOP, null);
        assertEquals(EndReason.STOPPED, run(plan(60_000, 0, 1, 2, 3)));
        assertFalse(events().contains("done3"));
        assertFalse(Messages.parseStack(Folders.read(new File(folder, Messages.STACK), 1 << 20)).complete());
    }

    @Test
    public void stoppedAfterTheLastFrameItIsComplete() throws IOException {
        control("frame_001.dng", 1, Command.STOP, null);
        assertEquals(EndReason.COMPLETE, run(plan(60_000, 0, 1)));
    }

    @Test
    public void aFrameIsTakenAgainAsTheNextAttempt() throws IOException {
        control("frame_001.dng", 1, Command.RETRY, 0);
        control("frame_000_r1.dng", 2, Command.STOP, null);
        assertEquals(EndReason.COMPLETE, run(plan(60_000, 0, 1)));
        assertEquals("hello start0 done0 start1 done1 start0 done0 end", events());
        Messages.Stack stack = Messages.parseStack(Folders.read(new File(folder, Messages.STACK), 1 << 20));
        assertEquals("frame_000_r1.dng", stack.frames().get(0).file());
        assertTrue("named once, kept", new File(folder, "frame_000.dng").exists());
    }

    @Test
    public void afterAFailureItWaitsAndGoesOn() throws IOException {
        port.fault("send", 2, 2, "wrong distance");
        control("\"failure\"", 1, Command.RETRY, 1);
        control("frame_002.dng", 2, Command.STOP, null);
        assertEquals(EndReason.COMPLETE, run(plan(60_000, 0, 1, 2)));
        assertEquals("hello start0 done0 start1 failure1 start1 done1 start2 done2 end", events());
        assertEquals(FailureKind.FOCUS, failure().kind());
    }

    @Test
    public void withoutAControlItEndsAfterAWhile() throws IOException {
        port.fault("send", 1, 2, "wrong distance");
        assertEquals(EndReason.IDLE, run(plan(5000, 0, 1)));
        assertEquals("hello start0 failure0 end", events());
    }

    @Test
    public void aControlThatIsOldOrOfAnotherSessionOrBrokenCountsForNothing() throws IOException {
        File file = new File(folder, Messages.CONTROL);
        Folders.write(file, Json.write(new Control("other-1", 9, Command.STOP, null).toJson()));
        assertEquals(EndReason.COMPLETE, run(plan(0, 0)));
        folder = temporary.newFolder("b", "take-1");
        Folders.write(new File(folder, Messages.CONTROL), "{");
        assertEquals(EndReason.COMPLETE, run(plan(0, 0)));
    }

    @Test
    public void aStopIsObeyedWhileTheLensIsWaitedFor() throws IOException {
        port.fault("send", 1, 99, "never stationary");
        control("\"start\"", 1, Command.STOP, null);
        assertEquals(EndReason.STOPPED, run(plan(60_000, 0, 1)));
        assertEquals("hello start0 end", events());
        assertTrue(port.clock.now < 1500);
    }

    @Test
    public void cancelledItEnds() throws IOException {
        port.clock.onSleep.add(() -> session.cancel());
        assertEquals(EndReason.STOPPED, run(plan(60_000, 0, 1)));
        assertTrue(port.closes > 0);
    }

    @Test
    public void aCameraThatIsClosedEndsIt() throws IOException {
        port.fault("report", 8, 1, "closed");
        assertEquals(EndReason.FAILED, run(plan(60_000, 0, 1, 2)));
        assertEquals("hello start0 done0 start1 failure1 end", events());
        assertEquals(FailureKind.CAMERA, failure().kind());
        assertFalse(Messages.parseStack(Folders.read(new File(folder, Messages.STACK), 1 << 20)).complete());
    }

    @Test
    public void whatNobodyExpectedIsSaidToo() throws IOException {
        port.fault("report", 8, 1, "bug");
        assertEquals(EndReason.FAILED, run(plan(60_000, 0, 1)));
        assertEquals("hello start0 done0 start1 failure end", events());
        assertEquals("the app failed: java.lang.IllegalStateException: driver", failure().message());
    }

    @Test
    public void aCameraThatIsBusyIsSaidAfterHello() throws IOException {
        port.fault("open", 1, 1, "busy");
        assertEquals(EndReason.FAILED, run(plan(0, 0)));
        assertEquals("hello failure end", events());
        assertEquals(FailureKind.BUSY, failure().kind());
        assertNull(failure().frame());
    }

    @Test
    public void aFullCardLeavesNoPartOfAFrame() throws IOException {
        port.fault("still", 1, 1, "no room");
        assertEquals(EndReason.IDLE, run(plan(100, 0)));
        assertEquals(FailureKind.STORAGE, failure().kind());
        String[] names = folder.list();
        Arrays.sort(names);
        assertEquals("[journal.jsonl, plan.json, stack.json]", Arrays.toString(names));
        assertEquals(0, port.openImages);
    }

    @Test
    public void heatEndsIt() throws IOException {
        port.warning = () -> "the phone is too hot (severe)";
        assertEquals(EndReason.FAILED, run(plan(0, 0)));
        assertEquals(FailureKind.THERMAL, failure().kind());
    }

    @Test
    public void whatThisPhoneCannotDoIsRefusedBeforeAnythingMoves() throws IOException {
        PlanFrame[] bad = {
            new PlanFrame(0, 10.1, 0.1, null, null, null), new PlanFrame(0, 1, 0.1, 999L, null, null),
            new PlanFrame(0, 1, 0.1, null, 6400, null), new PlanFrame(0, 1, 0.1, null, null, 2.8),
        };
        for (int i = 0; i < bad.length; i++) {
            folder = temporary.newFolder("p" + i, "take-1");
            run(new Plan("take-1", Arrays.asList(bad[i]), SettleRule.USUAL, null, 0));
            assertEquals(FailureKind.PLAN, failure().kind());
            assertTrue(failure().message().startsWith("frame 0: "));
        }
        folder = temporary.newFolder("q", "take-1");
        run(new Plan("take-1", Arrays.asList(), SettleRule.USUAL, "7", 0));
        assertEquals("no camera '7'", failure().message());
        assertEquals(0, port.count("open"));
    }

    @Test
    public void exposureAndIsoThatWereGivenAreKeptAndTheRestMakesUpForIt() throws IOException {
        PlanFrame[] frames = {
            new PlanFrame(0, 1, 0.1, 20_000_000L, null, null), new PlanFrame(1, 1, 0.1, null, 400, null),
            new PlanFrame(2, 1, 0.1, 8_000_000L, 55, 1.68),
        };
        run(new Plan("take-1", Arrays.asList(frames), SettleRule.USUAL, null, 0));
        List<FrameDone> done = Messages.parseStack(Folders.read(new File(folder, Messages.STACK), 1 << 20)).frames();
        assertEquals(50, done.get(0).iso());
        assertEquals(2_500_000, done.get(1).exposureNs());
        assertEquals(55, done.get(2).iso());
    }

    @Test
    public void aPlanThatIsNoneIsSaid() throws IOException {
        Folders.write(new File(folder, Messages.PLAN), "{\"version\": 1}");
        assertEquals(EndReason.FAILED, run());
        assertEquals("failure end", events());
        assertEquals(FailureKind.PLAN, failure().kind());
        folder = temporary.newFolder("empty", "take-1");
        assertEquals(EndReason.FAILED, run());
        folder = temporary.newFolder("take-2");
        assertEquals("the plan of another session", EndReason.FAILED, run(plan(0, 1)));
    }

    @Test
    public void aSessionRunsOnce() throws IOException {
        run(plan(0, 0));
        byte[] frame = Folders.read(new File(folder, "frame_000.dng"), 1 << 20);
        assertEquals(EndReason.FAILED, run());
        assertEquals("session 'take-1' ran before", failure().message());
        assertTrue(Arrays.equals(frame, Folders.read(new File(folder, "frame_000.dng"), 1 << 20)));
    }
}
