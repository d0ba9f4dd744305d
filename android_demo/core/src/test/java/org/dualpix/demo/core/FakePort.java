package org.dualpix.demo.core;

import java.io.IOException;
import java.io.OutputStream;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;
import org.dualpix.demo.core.Messages.FailureKind;
import org.dualpix.demo.core.Messages.PhoneCamera;
import org.dualpix.demo.core.Messages.Quality;

/** A camera without waiting: the lens moves for three results, a fault strikes the n-th time something is done. */
final class FakePort implements CameraPort {
    static final PhoneCamera CAMERA = new PhoneCamera("0", Quality.APPROXIMATE, 10, 6.9, 1.2, Arrays.asList(1.68),
            Arrays.asList(8L, 6L), Arrays.asList(1000L, 1_000_000_000L), Arrays.asList(50L, 3200L), true, 0.2);

    /** Only runs on where somebody waits. */
    static final class FakeClock implements Clock {
        long now = 1000;
        final List<Runnable> onSleep = new ArrayList<>();

        @Override
        public long millis() {
            return now;
        }

        @Override
        public String utc() {
            return "2026-11-21T16:05:02.000Z";
        }

        @Override
        public void sleep(long millis) {
            now += Math.max(1, millis);
            new ArrayList<>(onSleep).forEach(Runnable::run);
        }
    }

    final FakeClock clock = new FakeClock();
    final List<String> log = new ArrayList<>();
    /** {@code send 2} -> fault. */
    final Map<String, String> faults = new HashMap<>();
    Supplier<String> warning = () -> null;
    int openImages;
    int closes;
    private final Map<String, Integer> counts = new HashMap<>();
    private final Deque<StillPart> parts = new ArrayDeque<>();
    private Aim aim;
    private String lens;
    private int moving;

    FakePort fault(String at, int first, int times, String kind) {
        for (int i = 0; i < times; i++) {
            faults.put(at + " " + (first + i), kind);
        }
        return this;
    }

    int count(String what) {
        return counts.getOrDefault(what, 0);
    }

    private String strike(String what) throws CameraFault {
        counts.merge(what, 1, Integer::sum);
        log.add(what);
        String kind = faults.get(what + " " + counts.get(what));
        if ("bug".equals(kind)) {
            throw new IllegalStateException("driver");
        }
        if ("closed".equals(kind)) {
            throw new CameraFault(FailureKind.CAMERA, "camera 0 was closed");
        }
        return kind;
    }

    @Override
    public PhoneCamera describe(String id) throws CameraFault {
        if (id != null && !id.equals("0")) {
            throw new CameraFault(FailureKind.PLAN, "no camera '" + id + "'");
        }
        return CAMERA;
    }

    @Override
    public void open() throws CameraFault {
        if ("busy".equals(strike("open"))) {
            throw new CameraFault(FailureKind.BUSY, "camera 0 is in use");
        }
    }

    @Override
    public Metered meter() throws CameraFault {
        strike("meter");
        return new Metered(10_000_000, 100, 1.68);
    }

    @Override
    public void send(Aim wanted) throws CameraFault {
        lens = strike("send");
        aim = wanted;
        moving = 3;
    }

    private Report report(boolean stationary, double diopters) {
        return new Report(clock.now * 1_000_000, diopters, stationary, aim.exposureNs(), aim.iso(), aim.fNumber(), "2",
                null);
    }

    @Override
    public Report nextReport(long timeoutMs) throws CameraFault {
        if ("silent".equals(lens)) {
            clock.sleep(timeoutMs);
            return null;
        }
        clock.sleep(33);
        strike("report");
        if ("wrong distance".equals(lens)) {
            return report(true, aim.diopters() + 0.4);
        }
        if ("passes by".equals(lens)) {
            return report(count("report") % 2 == 0, aim.diopters() + 0.001);
        }
        return report(!"never stationary".equals(lens) && moving-- <= 0, aim.diopters() + 0.001);
    }

    @Override
    public void shoot(Aim wanted) throws CameraFault {
        String kind = strike("still");
        parts.clear();
        clock.sleep(33);
        Report result = report(!"moves in the frame".equals(kind), aim.diopters() + 0.001);
        long time = result.timestampNs();
        if ("old image first".equals(kind)) {
            parts.add(new StillPart(null, new Image(time - 33_000_000, kind)));
        }
        if ("mismatch".equals(kind)) {
            parts.add(new StillPart(null, new Image(time + 1, kind)));
        } else if (!"dropped image".equals(kind) && !"image first".equals(kind)) {
            parts.add(new StillPart(null, new Image(time, kind)));
        }
        if (!"no result".equals(kind)) {
            parts.add(new StillPart(result, null));
        }
        if ("image first".equals(kind)) {
            parts.addFirst(new StillPart(null, new Image(time, kind)));
        }
    }

    @Override
    public StillPart nextPart(long timeoutMs) throws CameraFault {
        strike("part");
        StillPart part = parts.poll();
        clock.sleep(part == null ? timeoutMs : 5);
        return part;
    }

    @Override
    public String warning() {
        return warning.get();
    }

    @Override
    public Map<String, Object> details() {
        return Json.object("lens_focus_range_d", Arrays.asList(0.1, 0.2));
    }

    @Override
    public void close() {
        closes++;
        parts.stream().filter(part -> part.image() != null).forEach(part -> part.image().close());
        parts.clear();
    }

    private final class Image implements RawImage {
        private final long time;
        private final String kind;

        Image(long time, String kind) {
            this.time = time;
            this.kind = kind;
            openImages++;
        }

        @Override
        public long timestampNs() {
            return time;
        }

        @Override
        public void write(Report report, OutputStream out) throws IOException {
            if ("no room".equals(kind)) {
                out.write(1);
                throw new IOException("no space left on device");
            }
            out.write(("frame at " + report.diopters() + " of time " + time).getBytes("UTF-8"));
        }

        @Override
        public void close() {
            openImages--;
        }
    }
}
