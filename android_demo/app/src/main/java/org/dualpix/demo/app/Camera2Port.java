package org.dualpix.demo.app;

import android.annotation.SuppressLint;
import android.content.Context;
import android.graphics.ImageFormat;
import android.graphics.Rect;
import android.hardware.camera2.CameraAccessException;
import android.hardware.camera2.CameraCaptureSession;
import android.hardware.camera2.CameraCharacteristics;
import android.hardware.camera2.CameraDevice;
import android.hardware.camera2.CameraManager;
import android.hardware.camera2.CameraMetadata;
import android.hardware.camera2.CaptureRequest;
import android.hardware.camera2.CaptureResult;
import android.hardware.camera2.DngCreator;
import android.hardware.camera2.TotalCaptureResult;
import android.hardware.camera2.params.BlackLevelPattern;
import android.hardware.camera2.params.StreamConfigurationMap;
import android.media.Image;
import android.media.ImageReader;
import android.os.Handler;
import android.os.HandlerThread;
import android.os.PowerManager;
import android.util.Range;
import android.util.Size;
import android.util.SizeF;
import android.view.Surface;
import java.io.IOException;
import java.io.OutputStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.dualpix.demo.core.CameraFault;
import org.dualpix.demo.core.CameraPort;
import org.dualpix.demo.core.Json;
import org.dualpix.demo.core.Messages.FailureKind;
import org.dualpix.demo.core.Messages.PhoneCamera;
import org.dualpix.demo.core.Messages.Quality;

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
    private String id;
    private String physicalId;
    private CameraCharacteristics logical;
    private CameraCharacteristics sensor;
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
            id = wanted == null ? mainBackCamera() : known(wanted);
            logical = manager.getCameraCharacteristics(id);
            physicalId = mainPhysicalCamera();
            sensor = physicalId == null ? logical : manager.getCameraCharacteristics(physicalId);
            return describe();
        } catch (CameraAccessException | IllegalArgumentException error) {
            throw new CameraFault(FailureKind.CAMERA, "camera " + wanted + ": " + error.getMessage());
        }
    }

    private PhoneCamera describe() throws CameraFault {
        Size array = rawSize();
        SizeF size = need(CameraCharacteristics.SENSOR_INFO_PHYSICAL_SIZE);
        Size pixels = need(CameraCharacteristics.SENSOR_INFO_PIXEL_ARRAY_SIZE);
        Range<Long> exposure = need(CameraCharacteristics.SENSOR_INFO_EXPOSURE_TIME_RANGE);
        Range<Integer> iso = need(CameraCharacteristics.SENSOR_INFO_SENSITIVITY_RANGE);
        List<Double> fNumbers = new ArrayList<>();
        for (float f : need(CameraCharacteristics.LENS_INFO_AVAILABLE_APERTURES)) {
            fNumbers.add(plain(f));
        }
        Float nearest = sensor.get(CameraCharacteristics.LENS_INFO_MINIMUM_FOCUS_DISTANCE);
        Float hyperfocal = sensor.get(CameraCharacteristics.LENS_INFO_HYPERFOCAL_DISTANCE);
        double pitchUm = 1000.0 * size.getWidth() / pixels.getWidth();
        return new PhoneCamera(id, quality(), nearest == null ? 0 : plain(nearest),
                plain(need(CameraCharacteristics.LENS_INFO_AVAILABLE_FOCAL_LENGTHS)[0]), pitchUm, fNumbers,
                Arrays.asList((long) array.getWidth(), (long) array.getHeight()),
                Arrays.asList(exposure.getLower(), exposure.getUpper()),
                Arrays.asList((long) iso.getLower(), (long) iso.getUpper()), stabiliserOff(),
                hyperfocal == null ? null : plain(hyperfocal));
    }

    private Quality quality() {
        Integer found = sensor.get(CameraCharacteristics.LENS_INFO_FOCUS_DISTANCE_CALIBRATION);
        if (found == null || found == CameraMetadata.LENS_INFO_FOCUS_DISTANCE_CALIBRATION_UNCALIBRATED) {
            return Quality.UNCALIBRATED;
        }
        return found == CameraMetadata.LENS_INFO_FOCUS_DISTANCE_CALIBRATION_CALIBRATED ? Quality.CALIBRATED
                : Quality.APPROXIMATE;
    }

    /** Off can be asked for wherever there is a stabiliser at all. */
    private boolean stabiliserOff() {
        int[] modes = sensor.get(CameraCharacteristics.LENS_INFO_AVAILABLE_OPTICAL_STABILIZATION);
        return modes == null || modes.length == 0 || has(modes, CameraMetadata.LENS_OPTICAL_STABILIZATION_MODE_OFF);
    }

    private String known(String wanted) throws CameraAccessException, CameraFault {
        if (!Arrays.asList(manager.getCameraIdList()).contains(wanted)) {
            throw new CameraFault(FailureKind.PLAN, "no camera '" + wanted + "'; there are "
                    + String.join(", ", manager.getCameraIdList()));
        }
        return wanted;
    }

    private String mainBackCamera() throws CameraAccessException, CameraFault {
        for (String candidate : manager.getCameraIdList()) {
            CameraCharacteristics c = manager.getCameraCharacteristics(candidate);
            Integer facing = c.get(CameraCharacteristics.LENS_FACING);
            if (facing != null && facing == CameraMetadata.LENS_FACING_BACK && capable(c)) {
                return candidate;
            }
        }
        throw new CameraFault(FailureKind.PLAN, "no back camera of this phone can be set by hand and gives raw frames");
    }

    /** Of the cameras behind a logical one, the capable one with the focal length that the logical one begins with. */
    private String mainPhysicalCamera() throws CameraAccessException {
        float[] focal = logical.get(CameraCharacteristics.LENS_INFO_AVAILABLE_FOCAL_LENGTHS);
        String best = null;
        for (String candidate : Compat.physicalIds(logical)) {
            CameraCharacteristics c = manager.getCameraCharacteristics(candidate);
            float[] own = c.get(CameraCharacteristics.LENS_INFO_AVAILABLE_FOCAL_LENGTHS);
            if (capable(c) && own != null && focal != null && own[0] == focal[0]) {
                best = candidate;
            }
        }
        return best;
    }

    private static boolean capable(CameraCharacteristics c) {
        int[] all = c.get(CameraCharacteristics.REQUEST_AVAILABLE_CAPABILITIES);
        return all != null && has(all, CameraMetadata.REQUEST_AVAILABLE_CAPABILITIES_RAW)
                && has(all, CameraMetadata.REQUEST_AVAILABLE_CAPABILITIES_MANUAL_SENSOR);
    }

    private Size rawSize() throws CameraFault {
        StreamConfigurationMap map = need(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP);
        Size[] sizes = map.getOutputSizes(ImageFormat.RAW_SENSOR);
        if (sizes == null || sizes.length == 0) {
            throw new CameraFault(FailureKind.PLAN, "camera " + id + " gives no raw frames");
        }
        Size best = sizes[0];
        for (Size size : sizes) {
            best = (long) size.getWidth() * size.getHeight() > (long) best.getWidth() * best.getHeight() ? size : best;
        }
        return best;
    }

    @Override
    @SuppressLint("MissingPermission") // a SecurityException is the answer where it is missing
    public void open() throws CameraFault {
        thread = new HandlerThread("camera");
        thread.start();
        handler = new Handler(thread.getLooper());
        broken = null;
        try {
            Size size = rawSize();
            view = ImageReader.newInstance(VIEW.getWidth(), VIEW.getHeight(), ImageFormat.YUV_420_888, 2);
            view.setOnImageAvailableListener(Camera2Port::skip, handler);
            raw = ImageReader.newInstance(size.getWidth(), size.getHeight(), ImageFormat.RAW_SENSOR, RAW_IMAGES);
            raw.setOnImageAvailableListener(this::rawCame, handler);
            CountDownLatch opened = new CountDownLatch(1);
            manager.openCamera(id, new DeviceEvents(opened), handler);
            await(opened, "the camera does not open");
            CountDownLatch configured = new CountDownLatch(1);
            Compat.createSession(device, Arrays.asList(view.getSurface(), raw.getSurface()), physicalId, handler,
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
        try {
            CaptureRequest.Builder request = request(CameraDevice.TEMPLATE_PREVIEW, view.getSurface());
            request.set(CaptureRequest.CONTROL_AE_MODE, CameraMetadata.CONTROL_AE_MODE_ON);
            request.set(CaptureRequest.CONTROL_AWB_LOCK, false);
            request.set(CaptureRequest.LENS_FOCUS_DISTANCE, 0f);
            repeat(request);
        } catch (CameraAccessException | IllegalStateException error) {
            throw fault(error);
        }
        CaptureResult last = null;
        long giveUp = System.nanoTime() + METER_LIMIT_MS * 1_000_000;
        while (System.nanoTime() < giveUp) {
            TotalCaptureResult total = next(results, 100);
            if (total != null) {
                last = Compat.physicalResult(total, physicalId);
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
        try {
            CaptureRequest.Builder request = request(CameraDevice.TEMPLATE_PREVIEW, view.getSurface());
            byHand(request, aim);
            repeat(request);
        } catch (CameraAccessException | IllegalStateException error) {
            throw fault(error);
        }
    }

    @Override
    public Report nextReport(long timeoutMs) throws CameraFault {
        check();
        TotalCaptureResult total = next(results, timeoutMs);
        check();
        return total == null ? null : report(Compat.physicalResult(total, physicalId), total);
    }

    @Override
    public void shoot(Aim aim) throws CameraFault {
        check();
        still++;
        clearParts();
        try {
            CaptureRequest.Builder request = request(CameraDevice.TEMPLATE_STILL_CAPTURE, raw.getSurface());
            byHand(request, aim);
            session.capture(request.build(), new StillEvents(still), handler);
        } catch (CameraAccessException | IllegalStateException error) {
            throw fault(error);
        }
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
        BlackLevelPattern black = sensor.get(CameraCharacteristics.SENSOR_BLACK_LEVEL_PATTERN);
        List<Object> levels = new ArrayList<>();
        for (int i = 0; black != null && i < BlackLevelPattern.COUNT; i++) {
            levels.add(black.getOffsetForIndex(i % 2, i / 2));
        }
        Rect active = sensor.get(CameraCharacteristics.SENSOR_INFO_ACTIVE_ARRAY_SIZE);
        return Json.object("physical_id", physicalId, "black_level", levels,
                "white_level", sensor.get(CameraCharacteristics.SENSOR_INFO_WHITE_LEVEL),
                "active_array_px", active == null ? null
                        : Arrays.asList(active.left, active.top, active.right, active.bottom),
                "orientation_degrees", sensor.get(CameraCharacteristics.SENSOR_ORIENTATION),
                "intrinsics_px", list(sensor.get(CameraCharacteristics.LENS_INTRINSIC_CALIBRATION)),
                "distortion", list(Compat.distortion(sensor)));
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

    private CaptureRequest.Builder request(int template, Surface target) throws CameraAccessException {
        CaptureRequest.Builder request = device.createCaptureRequest(template);
        request.addTarget(target);
        request.set(CaptureRequest.CONTROL_AF_MODE, CameraMetadata.CONTROL_AF_MODE_OFF);
        request.set(CaptureRequest.CONTROL_AWB_LOCK, true);
        request.set(CaptureRequest.CONTROL_VIDEO_STABILIZATION_MODE,
                CameraMetadata.CONTROL_VIDEO_STABILIZATION_MODE_OFF);
        request.set(CaptureRequest.LENS_OPTICAL_STABILIZATION_MODE, CameraMetadata.LENS_OPTICAL_STABILIZATION_MODE_OFF);
        request.set(CaptureRequest.NOISE_REDUCTION_MODE, CameraMetadata.NOISE_REDUCTION_MODE_OFF);
        request.set(CaptureRequest.EDGE_MODE, CameraMetadata.EDGE_MODE_OFF);
        request.set(CaptureRequest.STATISTICS_LENS_SHADING_MAP_MODE,
                CameraMetadata.STATISTICS_LENS_SHADING_MAP_MODE_ON); // DngCreator writes it into the file
        Compat.undistortedOff(request, sensor);
        return request;
    }

    private static void byHand(CaptureRequest.Builder request, Aim aim) {
        request.set(CaptureRequest.CONTROL_AE_MODE, CameraMetadata.CONTROL_AE_MODE_OFF);
        request.set(CaptureRequest.SENSOR_EXPOSURE_TIME, aim.exposureNs());
        request.set(CaptureRequest.SENSOR_SENSITIVITY, aim.iso());
        request.set(CaptureRequest.LENS_APERTURE, (float) aim.fNumber());
        request.set(CaptureRequest.LENS_FOCUS_DISTANCE, (float) aim.diopters());
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
        String active = physicalId != null ? physicalId : Compat.activePhysicalId(result);
        return new Report(time == null ? 0 : time, diopters == null ? 0 : plain(diopters), still,
                exposure == null ? 0 : exposure, iso == null ? 0 : iso, aperture == null ? 0 : plain(aperture), active,
                total == null ? null : result);
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
            return new CameraFault(FailureKind.BUSY, "camera " + id + " is in use by another app");
        }
        return broken != null ? broken
                : new CameraFault(FailureKind.CAMERA, "camera " + id + ": " + error.getMessage());
    }

    private <T> T need(CameraCharacteristics.Key<T> key) throws CameraFault {
        T value = sensor.get(key);
        if (value == null) {
            throw new CameraFault(FailureKind.PLAN, "camera " + id + " does not tell its " + key.getName());
        }
        return value;
    }

    private static List<Object> list(float[] values) {
        List<Object> out = new ArrayList<>();
        for (int i = 0; values != null && i < values.length; i++) {
            out.add(plain(values[i]));
        }
        return out;
    }

    private static boolean has(int[] values, int value) {
        return Arrays.stream(values).anyMatch(v -> v == value);
    }

    /** The double that looks like the float: 1.68, not 1.6799999475479126. */
    private static double plain(float value) {
        return Double.parseDouble(Float.toString(value));
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
            end(camera, new CameraFault(FailureKind.CAMERA, "camera " + id + " was taken away by another app"));
        }

        @Override
        public void onError(CameraDevice camera, int error) {
            boolean busy = error == ERROR_CAMERA_IN_USE || error == ERROR_MAX_CAMERAS_IN_USE;
            end(camera, busy ? new CameraFault(FailureKind.BUSY, "camera " + id + " is in use by another app")
                    : new CameraFault(FailureKind.CAMERA, "camera " + id + " broke: error " + error));
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
            broken = new CameraFault(FailureKind.CAMERA, "camera " + id + " takes no raw stream beside a preview");
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
                parts.add(new StillPart(report(Compat.physicalResult(result, physicalId), result), null));
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
            try (DngCreator dng = new DngCreator(sensor, (CaptureResult) report.origin())) {
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
