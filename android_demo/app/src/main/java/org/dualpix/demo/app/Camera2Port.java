package org.dualpix.demo.app;

import android.annotation.SuppressLint;
import android.content.Context;
import android.graphics.ImageFormat;
import android.hardware.camera2.CameraAccessException;
import android.hardware.camera2.CameraCaptureSession;
import android.hardware.camera2.CameraDevice;
import android.hardware.camera2.CameraManager;
import android.hardware.camera2.CameraMetadata;
import android.hardware.camera2.CaptureRequest;
import android.hardware.camera2.CaptureResult;
import android.hardware.camera2.DngCreator;
import android.hardware.camera2.TotalCaptureResult;
import android.media.Image;
import android.media.ImageReader;
import android.os.Handler;
import android.os.HandlerThread;
import android.os.PowerManager;
import android.util.Size;
import java.io.IOException;
import java.io.OutputStream;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.dualpix.demo.core.CameraFault;
import org.dualpix.demo.core.CameraPort;
import org.dualpix.demo.core.Messages.FailureKind;
import org.dualpix.demo.core.Messages.PhoneCamera;

/**
 * The phone's camera by Camera2: everything by hand, one physical camera, raw frames as DNG.
 *
 * <p>A small YUV stream that nobody looks at keeps the sensor running; its results tell where the lens is. Callbacks
 * come on a thread of its own and go into queues. What was sent before is told from what comes after by the request's
 * tag.
 */
final class Camera2Port implements CameraPort {
    private static final long OPEN_LIMIT_MS = 5000;
    private static final long METER_LIMIT_MS = 4000;
    private static final int RAW_IMAGES = 3;
    private static final Size VIEW = new Size(640, 480);

    private final CameraManager manager;
    private final PowerManager power;
    private final BlockingQueue<TotalCaptureResult> results = new LinkedBlockingQueue<>(64);
    private final BlockingQueue<StillPart> parts = new LinkedBlockingQueue<>();
    private HandlerThread thread;
    private Handler handler;
    private CameraFacts facts;
    private CameraDevice device;
    private CameraCaptureSession session;
    private ImageReader view;
    private ImageReader raw;
    private volatile CameraFault broken;
    private volatile Integer generation = 0;
    private volatile int still;

    Camera2Port(Context context) {
        manager = (CameraManager) context.getSystemService(Context.CAMERA_SERVICE);
        power = (PowerManager) context.getSystemService(Context.POWER_SERVICE);
    }

    @Override
    public PhoneCamera describe(String wanted) throws CameraFault {
        try {
            facts = CameraFacts.of(manager, wanted);
            return facts.describe();
        } catch (CameraAccessException | IllegalArgumentException error) {
            throw new CameraFault(FailureKind.CAMERA, "camera " + wanted + ": " + error.getMessage());
        }
    }

    @Override
    @SuppressLint("MissingPermission") // a SecurityException is the answer where it is missing
    public void open() throws CameraFault {
        thread = new HandlerThread("camera");
        thread.start();
        handler = new Handler(thread.getLooper());
        broken = null;
        try {
            Size size = facts.rawSize();
            view = ImageReader.newInstance(VIEW.getWidth(), VIEW.getHeight(), ImageFormat.YUV_420_888, 2);
            view.setOnImageAvailableListener(Camera2Port::skip, handler);
            raw = ImageReader.newInstance(size.getWidth(), size.getHeight(), ImageFormat.RAW_SENSOR, RAW_IMAGES);
            raw.setOnImageAvailableListener(this::rawCame, handler);
            CountDownLatch opened = new CountDownLatch(1);
            manager.openCamera(facts.id, new DeviceEvents(opened), handler);
            await(opened, "the camera does not open");
            CountDownLatch configured = new CountDownLatch(1);
            Compat.createSession(device, Arrays.asList(view.getSurface(), raw.getSurface()), facts.physicalId, handler,
                    new SessionEvents(configured));
            await(configured, "the camera takes no session");
        } catch (SecurityException error) {
            throw new CameraFault(FailureKind.PERMISSION, "the app may not use the camera");
        } catch (CameraAccessException error) {
            throw fault(error);
        }
    }

    private void await(CountDownLatch latch, String otherwise) throws CameraFault {
        try {
            if (!latch.await(OPEN_LIMIT_MS, TimeUnit.MILLISECONDS)) {
                throw new CameraFault(FailureKind.CAMERA, otherwise);
            }
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new CameraFault(FailureKind.CAMERA, "interrupted");
        }
        check();
    }

    @Override
    public Metered meter() throws CameraFault {
        ask(requests -> repeat(requests.metering(view.getSurface())));
        CaptureResult last = null;
        long giveUp = System.nanoTime() + METER_LIMIT_MS * 1_000_000;
        while (System.nanoTime() < giveUp) {
            TotalCaptureResult total = next(results, 100);
            if (total != null) {
                last = Compat.physicalResult(total, facts.physicalId);
                Integer state = total.get(CaptureResult.CONTROL_AE_STATE);
                if (state != null && (state == CameraMetadata.CONTROL_AE_STATE_CONVERGED
                        || state == CameraMetadata.CONTROL_AE_STATE_FLASH_REQUIRED)) {
                    break;
                }
            }
        }
        Report report = last == null ? null : report(last, null);
        if (report == null || report.exposureNs() <= 0 || report.iso() <= 0) {
            throw new CameraFault(FailureKind.CAPTURE, "the exposure cannot be metered");
        }
        return new Metered(report.exposureNs(), report.iso(), report.fNumber());
    }

    @Override
    public void send(Aim aim) throws CameraFault {
        check();
        ask(requests -> repeat(requests.moving(view.getSurface(), aim)));
    }

    @Override
    public Report nextReport(long timeoutMs) throws CameraFault {
        check();
        TotalCaptureResult total = next(results, timeoutMs);
        check();
        return total == null ? null : report(Compat.physicalResult(total, facts.physicalId), total);
    }

    @Override
    public void shoot(Aim aim) throws CameraFault {
        check();
        still++;
        clearParts();
        ask(requests ->
                session.capture(requests.still(raw.getSurface(), aim).build(), new StillEvents(still), handler));
    }

    @Override
    public StillPart nextPart(long timeoutMs) throws CameraFault {
        check();
        StillPart part = next(parts, timeoutMs);
        if (part == null) {
            check();
        }
        return part;
    }

    @Override
    public String warning() {
        return Compat.tooHot(power) ? "the phone is too hot (" + Compat.thermal(power) + ")" : null;
    }

    @Override
    public Map<String, Object> details() {
        return facts.details();
    }

    @Override
    public void close() {
        generation++;
        if (session != null) {
            session.close();
            session = null;
        }
        if (device != null) {
            device.close();
            device = null;
        }
        clearParts();
        for (ImageReader reader : new ImageReader[] {view, raw}) {
            if (reader != null) {
                reader.close();
            }
        }
        view = null;
        raw = null;
        if (thread != null) {
            thread.quitSafely();
            thread = null;
        }
    }

    /** Something that the open camera is asked for. */
    private interface Asked {
        void with(Requests requests) throws CameraAccessException;
    }

    private void ask(Asked asked) throws CameraFault {
        try {
            asked.with(new Requests(device, facts.sensor));
        } catch (CameraAccessException | IllegalStateException error) {
            throw fault(error);
        }
    }

    private void repeat(CaptureRequest.Builder request) throws CameraAccessException {
        Integer tag = ++generation;
        request.setTag(tag);
        results.clear();
        session.setRepeatingRequest(request.build(), new CameraCaptureSession.CaptureCallback() {
            @Override
            public void onCaptureCompleted(CameraCaptureSession s, CaptureRequest done, TotalCaptureResult result) {
                if (tag.equals(generation)) {
                    results.offer(result);
                }
            }
        }, handler);
    }

    private Report report(CaptureResult result, TotalCaptureResult total) {
        Integer state = result.get(CaptureResult.LENS_STATE);
        Float diopters = result.get(CaptureResult.LENS_FOCUS_DISTANCE);
        Long exposure = result.get(CaptureResult.SENSOR_EXPOSURE_TIME);
        Integer iso = result.get(CaptureResult.SENSOR_SENSITIVITY);
        Float aperture = result.get(CaptureResult.LENS_APERTURE);
        Long time = result.get(CaptureResult.SENSOR_TIMESTAMP);
        boolean still = state != null && state == CameraMetadata.LENS_STATE_STATIONARY && diopters != null;
        String active = facts.physicalId != null ? facts.physicalId : Compat.activePhysicalId(result);
        return new Report(time == null ? 0 : time, diopters == null ? 0 : CameraFacts.plain(diopters), still,
                exposure == null ? 0 : exposure, iso == null ? 0 : iso,
                aperture == null ? 0 : CameraFacts.plain(aperture), active, total == null ? null : result);
    }

    private void rawCame(ImageReader reader) {
        Image image;
        try {
            image = reader.acquireNextImage();
        } catch (IllegalStateException tooMany) {
            return; // the one that is waited for counts as dropped
        }
        if (image != null) {
            parts.add(new StillPart(null, new DngImage(image)));
        }
    }

    private static void skip(ImageReader reader) {
        Image image = reader.acquireLatestImage();
        if (image != null) {
            image.close();
        }
    }

    private void clearParts() {
        StillPart part;
        while ((part = parts.poll()) != null) {
            if (part.image() != null) {
                part.image().close();
            }
        }
    }

    private <T> T next(BlockingQueue<T> queue, long timeoutMs) throws CameraFault {
        try {
            return queue.poll(timeoutMs, TimeUnit.MILLISECONDS);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new CameraFault(FailureKind.CAMERA, "interrupted");
        }
    }

    private void check() throws CameraFault {
        CameraFault fault = broken;
        if (fault != null) {
            throw new CameraFault(fault.kind(), fault.getMessage());
        }
    }

    private CameraFault fault(Exception error) {
        int reason = error instanceof CameraAccessException access ? access.getReason() : -1;
        if (reason == CameraAccessException.CAMERA_IN_USE || reason == CameraAccessException.MAX_CAMERAS_IN_USE) {
            return new CameraFault(FailureKind.BUSY, "camera " + facts.id + " is in use by another app");
        }
        return broken != null ? broken
                : new CameraFault(FailureKind.CAMERA, "camera " + facts.id + ": " + error.getMessage());
    }

    private final class DeviceEvents extends CameraDevice.StateCallback {
        private final CountDownLatch opened;

        DeviceEvents(CountDownLatch opened) {
            this.opened = opened;
        }

        @Override
        public void onOpened(CameraDevice camera) {
            device = camera;
            opened.countDown();
        }

        @Override
        public void onDisconnected(CameraDevice camera) {
            end(camera, new CameraFault(FailureKind.CAMERA, "camera " + facts.id + " was taken away by another app"));
        }

        @Override
        public void onError(CameraDevice camera, int error) {
            boolean busy = error == ERROR_CAMERA_IN_USE || error == ERROR_MAX_CAMERAS_IN_USE;
            end(camera, busy ? new CameraFault(FailureKind.BUSY, "camera " + facts.id + " is in use by another app")
                    : new CameraFault(FailureKind.CAMERA, "camera " + facts.id + " broke: error " + error));
        }

        private void end(CameraDevice camera, CameraFault fault) {
            broken = fault;
            camera.close();
            opened.countDown();
        }
    }

    private final class SessionEvents extends CameraCaptureSession.StateCallback {
        private final CountDownLatch configured;

        SessionEvents(CountDownLatch configured) {
            this.configured = configured;
        }

        @Override
        public void onConfigured(CameraCaptureSession made) {
            session = made;
            configured.countDown();
        }

        @Override
        public void onConfigureFailed(CameraCaptureSession made) {
            broken = new CameraFault(FailureKind.CAMERA,
                    "camera " + facts.id + " takes no raw stream beside a preview");
            configured.countDown();
        }
    }

    private final class StillEvents extends CameraCaptureSession.CaptureCallback {
        private final int number;

        StillEvents(int number) {
            this.number = number;
        }

        @Override
        public void onCaptureCompleted(CameraCaptureSession s, CaptureRequest request, TotalCaptureResult result) {
            if (number == still) { // not one that came too late; of one that failed none comes at all
                parts.add(new StillPart(report(Compat.physicalResult(result, facts.physicalId), result), null));
            }
        }
    }

    private final class DngImage implements RawImage {
        private final Image image;

        DngImage(Image image) {
            this.image = image;
        }

        @Override
        public long timestampNs() {
            return image.getTimestamp();
        }

        @Override
        public void write(Report report, OutputStream out) throws IOException {
            try (DngCreator dng = new DngCreator(facts.sensor, (CaptureResult) report.origin())) {
                dng.writeImage(out, image);
            } catch (IllegalStateException | IllegalArgumentException error) {
                throw new IOException("no DNG can be made: " + error.getMessage(), error);
            }
        }

        @Override
        public void close() {
            image.close();
        }
    }
}
