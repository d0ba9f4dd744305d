package org.dualpix.demo.app;

import android.content.Intent;
import android.graphics.Bitmap;
import android.media.Image;
import android.os.Bundle;
import android.view.View;
import android.widget.Button;
import android.widget.ImageView;
import android.widget.ToggleButton;
import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import org.dualpix.demo.core.AppFiles;
import org.dualpix.demo.core.FloatTensor;
import org.dualpix.demo.core.ModelFolder;
import org.dualpix.demo.core.ModelFolder.Network;
import org.dualpix.demo.core.Overlay;
import org.dualpix.demo.core.Preprocess;
import org.dualpix.demo.core.Preprocess.Picture;
import org.dualpix.demo.core.Preprocess.Plane;
import org.dualpix.demo.core.ProtocolException;

/**
 * Live depth: what the camera sees, and over it what a network of {@code models/} says, at the network's own pace.
 *
 * <p>Android hands out no dual-pixel halves, so networks that want them see the same view twice, and the app says so:
 * it shows that all runs, not depth. Networks of one image see what they were made for.
 */
public final class MainActivity extends Screen {
    private static final int THREADS = 4;
    private static final int SHOWN_WIDTH = 320;
    private static final int SHOWN_HEIGHT = 240;
    private static final double LEAST_LIMIT = 0.5;

    private Engine engine;
    private final AtomicBoolean busy = new AtomicBoolean();
    private final int[] shown = new int[SHOWN_WIDTH * SHOWN_HEIGHT];
    private List<Network> networks = new ArrayList<>();
    private volatile Network network;
    private volatile boolean overlaid = true;
    private LiveCamera camera;
    private int chosen;

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        setContentView(R.layout.main);
        engine = new Engine(getString(R.string.executorch));
        findViewById(R.id.capture).setOnClickListener(view -> startActivity(new Intent(this, CaptureActivity.class)));
        findViewById(R.id.network).setOnClickListener(view -> choose(chosen + 1));
        ((ToggleButton) findViewById(R.id.overlay)).setOnCheckedChangeListener((button, on) -> {
            overlaid = on;
            findViewById(R.id.depth).setVisibility(on ? View.VISIBLE : View.INVISIBLE);
        });
    }

    @Override
    protected void onResume() {
        super.onResume();
        File folder = null;
        try {
            folder = AppFiles.models(files());
            networks = ModelFolder.read(folder);
        } catch (IOException | ProtocolException | IllegalArgumentException error) {
            networks = new ArrayList<>();
        }
        if (networks.isEmpty()) {
            say(getString(R.string.no_network, folder));
        } else {
            choose(chosen);
        }
        if (mayUseCamera()) {
            allowed();
        }
    }

    @Override
    void allowed() {
        if (camera == null) {
            camera = new LiveCamera(this, this::look, why -> say(getString(R.string.failed, why)));
            camera.open();
        }
    }

    @Override
    protected void onPause() {
        if (camera != null) {
            camera.close();
            camera = null;
        }
        super.onPause();
    }

    @Override
    protected void onDestroy() {
        network = null;
        work.execute(engine::close);
        super.onDestroy();
    }

    private void choose(int number) {
        if (networks.isEmpty()) {
            return;
        }
        chosen = number % networks.size();
        Network next = networks.get(chosen);
        network = null;
        ((Button) findViewById(R.id.network)).setText(next.recipe());
        work.execute(() -> {
            try {
                engine.load(next.file(), THREADS);
                network = next;
            } catch (IOException | LinkageError error) {
                say(getString(R.string.failed, error.getMessage()));
            }
        });
    }

    /** On the camera's thread: show it, and give it to the network if that has nothing to do. */
    private void look(Image image) {
        Image.Plane[] planes = image.getPlanes();
        Plane y = plane(planes[0]);
        Plane u = plane(planes[1]);
        Plane v = plane(planes[2]);
        int width = image.getWidth();
        int height = image.getHeight();
        Preprocess.toArgb(y, u, v, width, height, SHOWN_WIDTH, SHOWN_HEIGHT, shown);
        show(R.id.picture, Bitmap.createBitmap(shown, SHOWN_WIDTH, SHOWN_HEIGHT, Bitmap.Config.ARGB_8888));
        Network now = network;
        if (now == null || !overlaid || !busy.compareAndSet(false, true)) {
            return;
        }
        try {
            long[] shape = now.inputs().get(0).shape();
            Picture seen = Preprocess.fromYuv(
                    y, u, v, width, height, (int) shape[shape.length - 1], (int) shape[shape.length - 2]);
            work.execute(() -> infer(now, seen));
        } catch (RuntimeException error) {
            busy.set(false);
            say(getString(R.string.failed, error.getMessage()));
        }
    }

    private void infer(Network now, Picture seen) {
        try {
            if (now != network) {
                return;
            }
            Picture grey = Preprocess.grey(seen);
            List<FloatTensor> inputs = Arrays.asList(Preprocess.networkInputs(grey, grey, seen)).subList(
                    0, Math.min(3, now.inputs().size()));
            long start = System.nanoTime();
            float[] out = engine.run(inputs);
            long ms = (System.nanoTime() - start) / 1_000_000;
            showDepth(now, out, ms);
        } catch (IOException | RuntimeException error) {
            network = null;
            say(getString(R.string.failed, error.getMessage()));
        } finally {
            busy.set(false);
        }
    }

    private void showDepth(Network now, float[] values, long ms) {
        long[] shape = now.inputs().get(0).shape();
        int width = (int) shape[shape.length - 1];
        int height = (int) shape[shape.length - 2];
        if (values.length != width * height) {
            throw new IllegalStateException(values.length + " values for " + width + " x " + height + " pixels");
        }
        double limit = Overlay.limit(values, LEAST_LIMIT);
        int[] argb = new int[values.length];
        Overlay.colours(values, limit, argb);
        show(R.id.depth, Bitmap.createBitmap(argb, width, height, Bitmap.Config.ARGB_8888));
        String line = getString(R.string.running, now.recipe(), ms, limit, String.join(" ", engine.backends()));
        say(now.inputs().size() > 1 ? line + "\n" + getString(R.string.no_halves) : line);
    }

    private void show(int id, Bitmap bitmap) {
        runOnUiThread(() -> ((ImageView) findViewById(id)).setImageBitmap(bitmap));
    }

    private static Plane plane(Image.Plane plane) {
        return new Plane(plane.getBuffer(), plane.getRowStride(), plane.getPixelStride());
    }
}
