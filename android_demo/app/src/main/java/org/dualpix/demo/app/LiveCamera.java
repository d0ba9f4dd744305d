package org.dualpix.demo.app;

import android.annotation.SuppressLint;
import android.content.Context;
import android.graphics.ImageFormat;
import android.hardware.camera2.CameraAccessException;
import android.hardware.camera2.CameraCaptureSession;
import android.hardware.camera2.CameraCharacteristics;
import android.hardware.camera2.CameraDevice;
import android.hardware.camera2.CameraManager;
import android.hardware.camera2.CameraMetadata;
import android.hardware.camera2.CaptureRequest;
import android.media.Image;
import android.media.ImageReader;
import android.os.Handler;
import android.os.HandlerThread;
import java.util.Arrays;
import java.util.function.Consumer;

/** The back camera with its own automatic, as YUV images; each is closed after it was looked at. */
final class LiveCamera {
    static final int WIDTH = 640;
    static final int HEIGHT = 480;

    private final CameraManager manager;
    private final Consumer<Image> look;
    private final Consumer<String> fault;
    private HandlerThread thread;
    private Handler handler;
    private CameraDevice device;
    private ImageReader reader;

    LiveCamera(Context context, Consumer<Image> look, Consumer<String> fault) {
        manager = (CameraManager) context.getSystemService(Context.CAMERA_SERVICE);
        this.look = look;
        this.fault = fault;
    }

    @SuppressLint("MissingPermission") // asked for by the activity; a SecurityException is told like any fault
    void open() {
        thread = new HandlerThread("live");
        thread.start();
        handler = new Handler(thread.getLooper());
        reader = ImageReader.newInstance(WIDTH, HEIGHT, ImageFormat.YUV_420_888, 2);
        reader.setOnImageAvailableListener(this::came, handler);
        try {
            manager.openCamera(backCamera(), new Events(), handler);
        } catch (CameraAccessException | SecurityException | IllegalArgumentException error) {
            fault.accept(error.getMessage());
        }
    }

    void close() {
        if (thread == null) {
            return;
        }
        handler.post(() -> {
            if (device != null) {
                device.close();
                device = null;
            }
            reader.close();
        });
        thread.quitSafely();
        thread = null;
    }

    private String backCamera() throws CameraAccessException {
        for (String id : manager.getCameraIdList()) {
            Integer facing = manager.getCameraCharacteristics(id).get(CameraCharacteristics.LENS_FACING);
            if (facing != null && facing == CameraMetadata.LENS_FACING_BACK) {
                return id;
            }
        }
        throw new IllegalArgumentException("this phone has no back camera");
    }

    private void came(ImageReader from) {
        try (Image image = from.acquireLatestImage()) {
            if (image != null) {
                look.accept(image);
            }
        }
    }

    private void start(CameraCaptureSession session) {
        try {
            CaptureRequest.Builder request = session.getDevice().createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW);
            request.addTarget(reader.getSurface());
            session.setRepeatingRequest(request.build(), null, handler);
        } catch (CameraAccessException | IllegalStateException error) {
            fault.accept(error.getMessage());
        }
    }

    private final class Events extends CameraDevice.StateCallback {
        @Override
        public void onOpened(CameraDevice camera) {
            device = camera;
            try {
                Compat.createSession(camera, Arrays.asList(reader.getSurface()), null, handler, new SessionEvents());
            } catch (CameraAccessException | IllegalStateException error) {
                fault.accept(error.getMessage());
            }
        }

        @Override
        public void onDisconnected(CameraDevice camera) {
            camera.close();
            fault.accept("the camera was taken away by another app");
        }

        @Override
        public void onError(CameraDevice camera, int error) {
            camera.close();
            fault.accept("the camera broke: error " + error);
        }
    }

    private final class SessionEvents extends CameraCaptureSession.StateCallback {
        @Override
        public void onConfigured(CameraCaptureSession session) {
            start(session);
        }

        @Override
        public void onConfigureFailed(CameraCaptureSession session) {
            fault.accept("the camera takes no session");
        }
    }
}
