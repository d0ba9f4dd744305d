package org.dualpix.demo.core;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import org.dualpix.demo.core.CameraPort.Aim;
import org.dualpix.demo.core.CameraPort.Report;
import org.dualpix.demo.core.FrameTaker.Taken;
import org.dualpix.demo.core.Messages.FailureKind;
import org.dualpix.demo.core.Messages.SettleRule;
import org.junit.Test;

/** One frame, whatever the camera does. */
public class SweepTest {
    private static final Aim AIM = new Aim(2.25, 8_000_000, 55, 1.68);
    private static final SettleRule RULE = new SettleRule(2, 10, 1000, 2);

    private final FakePort port = new FakePort();
    private boolean stop;

    private Taken take() throws CameraFault, FrameTaker.Interrupted {
        return new FrameTaker(port, port.clock, RULE, () -> stop).take(AIM, 0.04);
    }

    private CameraFault fails(FailureKind kind) {
        CameraFault fault = assertThrows(CameraFault.class, this::take);
        assertEquals(kind, fault.kind());
        assertEquals("an image was not closed", 0, port.openImages);
        return fault;
    }

    @Test
    public void aFrameIsTakenOnceTheLensIsAtRestThere() throws Exception {
        Taken taken = take();
        assertEquals(1, port.count("send"));
        assertEquals("three moving, two at rest", 5, taken.settleResults());
        assertEquals(5 * 33, taken.settleMs());
        assertEquals(taken.report().timestampNs(), taken.image().timestampNs());
        assertEquals(1, port.openImages);
        taken.image().close();
    }

    @Test
    public void aLensThatNeverComesToRestIsSentAgainAndThenGivenUp() {
        port.fault("send", 1, 99, "never stationary");
        CameraFault fault = fails(FailureKind.FOCUS);
        assertEquals("lens at 2.251, sent to 2.250, still moving", fault.getMessage());
        assertEquals(3, port.count("send"));
        assertEquals(0, port.count("still"));
        assertTrue("bounded: " + port.clock.now, port.clock.now <= 1000 + 3 * (1000 + 33));
    }

    @Test
    public void aLensThatComesToRestOnlyTheSecondTimeIsAccepted() throws Exception {
        port.fault("send", 1, 1, "never stationary");
        take().image().close();
        assertEquals(2, port.count("send"));
    }

    @Test
    public void aLensAtTheWrongDistanceIsFoundBeforeTheTimeIsOver() {
        port.fault("send", 1, 99, "wrong distance");
        CameraFault fault = fails(FailureKind.FOCUS);
        assertEquals("lens at 2.650, sent to 2.250", fault.getMessage());
        assertEquals("ten results each time", 30, port.count("report"));
    }

    @Test
    public void aLensAtTheWrongDistanceIsSentAgain() throws Exception {
        port.fault("send", 1, 2, "wrong distance");
        take().image().close();
        assertEquals(3, port.count("send"));
    }

    @Test
    public void aLensThatOnlyPassesByIsNotThere() {
        port.fault("send", 1, 99, "passes by");
        fails(FailureKind.FOCUS);
        assertEquals(0, port.count("still"));
    }

    @Test
    public void aLensThatSaysNothingIsGivenUp() {
        port.fault("send", 1, 99, "silent");
        assertEquals("no word from the lens", fails(FailureKind.FOCUS).getMessage());
    }

    @Test
    public void aDroppedImageIsTakenAgain() throws Exception {
        port.fault("still", 1, 2, "dropped image");
        take().image().close();
        assertEquals(3, port.count("still"));
        assertEquals("the lens is looked at again before each", 3, port.count("send"));
    }

    @Test
    public void imagesThatNeverComeAreGivenUp() {
        port.fault("still", 1, 99, "dropped image");
        assertTrue(fails(FailureKind.CAPTURE).getMessage().startsWith("no image came for the result of time"));
        assertEquals(FrameTaker.STILLS, port.count("still"));
    }

    @Test
    public void anImageOfAnotherTimeIsNotTaken() {
        port.fault("still", 1, 99, "mismatch");
        assertTrue(fails(FailureKind.CAPTURE).getMessage().startsWith("image of time "));
    }

    @Test
    public void afterAnImageOfAnotherTimeTheRightOneIsWaitedFor() throws Exception {
        port.fault("still", 1, 1, "old image first");
        Taken taken = take();
        assertEquals(taken.report().timestampNs(), taken.image().timestampNs());
        taken.image().close();
        assertEquals(1, port.count("still"));
        assertEquals(0, port.openImages);
    }

    @Test
    public void theImageMayComeBeforeItsResult() throws Exception {
        port.fault("still", 1, 1, "image first");
        take().image().close();
        assertEquals(0, port.openImages);
    }

    @Test
    public void aResultThatNeverComesIsGivenUp() {
        port.fault("still", 1, 99, "no result");
        assertEquals("no result came for the exposure (3 times)", fails(FailureKind.CAPTURE).getMessage());
    }

    @Test
    public void aLensThatMovesInTheFrameItselfIsFoundOut() throws Exception {
        port.fault("still", 1, 1, "moves in the frame");
        take().image().close();
        assertEquals(2, port.count("still"));
        port.fault("still", 3, 99, "moves in the frame");
        assertTrue(fails(FailureKind.FOCUS).getMessage().contains("still moving in the frame itself"));
    }

    @Test
    public void aCameraThatIsClosedIsReportedAtOnceWhereverItHappens() {
        for (String at : new String[] {"send", "report", "still", "part"}) {
            FakePort closed = new FakePort().fault(at, 1, 1, "closed");
            CameraFault fault = assertThrows(at, CameraFault.class,
                    () -> new FrameTaker(closed, closed.clock, RULE, () -> false).take(AIM, 0.04));
            assertEquals(FailureKind.CAMERA, fault.kind());
            assertTrue(fault.ends());
            assertEquals(1, closed.count(at));
            closed.close();
            assertEquals(0, closed.openImages);
        }
    }

    @Test
    public void itEndsWhenItIsToldTo() {
        port.fault("send", 1, 99, "never stationary");
        port.clock.onSleep.add(() -> stop = port.clock.now > 1200);
        assertThrows(FrameTaker.Interrupted.class, this::take);
        assertTrue(port.clock.now < 1300);
    }

    @Test
    public void restAndDistanceAreBothNeeded() {
        assertTrue(Settling.accepts(at(2.28, true), 2.25, 0.04));
        assertTrue(!Settling.accepts(at(2.28, false), 2.25, 0.04));
        assertTrue(!Settling.accepts(at(2.30, true), 2.25, 0.04));
        assertTrue("not equal, less", !Settling.accepts(at(2.5, true), 2.25, 0.25));
    }

    @Test
    public void theResultsHaveToBeInARow() {
        Settling settling = new Settling(RULE, 2.25, 0.04);
        assertEquals(Settling.State.WAITING, settling.feed(at(2.25, true)));
        assertEquals(Settling.State.WAITING, settling.feed(at(2.25, false)));
        assertEquals(Settling.State.WAITING, settling.feed(at(2.25, true)));
        assertEquals(Settling.State.THERE, settling.feed(at(2.25, true)));
    }

    private static Report at(double diopters, boolean stationary) {
        return new Report(0, diopters, stationary, 1, 1, 1, null, null);
    }
}
