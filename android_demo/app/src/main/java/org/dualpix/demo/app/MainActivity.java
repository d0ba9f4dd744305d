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
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import org.dualpix.demo.core.AppFiles;
import org.dualpix.demo.core.FloatTensor;
import org.dualpix.demo.core.LiveInputs;
import org.dualpix.demo.core.ModelFolder;
import org.dualpix.demo.core.Network;
import org.dualpix.demo.core.Outputs;
import org.dualpix.demo.core.Preprocess;
import org.dualpix.demo.core.Preprocess.Picture;
import org.dualpix.demo.core.Preprocess.Plane;
import org.dualpix.demo.core.Preprocess.Region;
import org.dualpix.demo.core.ProtocolException;
import org.dualpix.demo.core.Shown;

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

    private Engine engine;
    private final AtomicBoolean busy = new AtomicBoolean();
    private List<Network> networks = new ArrayList<>();
    private volatile Network network;
    private volatile boolean overlaid = true;
    private volatile boolean sureOnly;
    private volatile boolean sharpened;
    private LiveCamera camera;
    private int chosen = -1; // nobody has chosen yet

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        setContentView(R.layout.main);
        engine = new Engine(getString(R.string.executorch));
        findViewById(R.id.capture).setOnClickListener(view -> startActivity(new Intent(this, CaptureActivity.class)));
        findViewById(R.id.stack).setOnClickListener(view -> startActivity(new Intent(this, DepthActivity.class)));
        findViewById(R.id.network).setOnClickListener(view -> choose(chosen + 1));
        ((ToggleButton) findViewById(R.id.overlay)).setOnCheckedChangeListener((button, on) -> {
            overlaid = on;
            findViewById(R.id.depth).setVisibility(on ? View.VISIBLE : View.INVISIBLE);
        });
        ((ToggleButton) findViewById(R.id.sure)).setOnCheckedChangeListener((button, on) -> sureOnly = on);
        ((ToggleButton) findViewById(R.id.sharpen)).setOnCheckedChangeListener((button, on) -> sharpened = on);
    }

    @Override
    protected void onResume() {
        super.onResume();
        File folder = null;
        try {
            folder = AppFiles.models(files());
            networks = ModelFolder.read(folder);
            if (networks.isEmpty()) {
                say(getString(R.string.no_network, folder));
            }
        } catch (ProtocolException error) { // a manifest that is there, and cannot be used
            networks = new ArrayList<>();
            say(getString(R.string.failed, error.getMessage()));
        } catch (IOException error) {
            networks = new ArrayList<>();
            say(getString(R.string.no_network, folder));
        }
        choose(chosen < 0 ? ModelFolder.quickest(networks) : chosen);
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
        network = null;
        ((ImageView) findViewById(R.id.depth)).setImageDrawable(null);
        if (networks.isEmpty()) {
            return;
        }
        chosen = number % networks.size();
        Network next = networks.get(chosen);
        ((Button) findViewById(R.id.network)).setText(next.recipe());
        work.execute(() -> {
            try {
                LiveInputs.check(next);
                engine.load(next.checkedFile(), THREADS);
                showControls(next);
                network = next;
            } catch (IOException | ProtocolException | LinkageError error) {
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
        Network now = network;
        Region part = now == null ? Region.whole(width, height)
                : Region.centred(width, height, now.picture().width(), now.picture().height());
        int shownWidth = Math.min(SHOWN_WIDTH, part.width());
        int shownHeight = Math.max(1, shownWidth * part.height() / part.width());
        if (now == null || !sharpened || !givesSharp(now)) {
            int[] argb = new int[shownWidth * shownHeight];
            Preprocess.toArgb(y, u, v, part, shownWidth, shownHeight, argb);
            show(R.id.picture, Bitmap.createBitmap(argb, shownWidth, shownHeight, Bitmap.Config.ARGB_8888));
        }
        if (now == null || !overlaid && !sharpened || !busy.compareAndSet(false, true)) {
            return;
        }
        try {
            Picture seen = Preprocess.fromYuv(y, u, v, part, now.picture().width(), now.picture().height());
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
            List<FloatTensor> inputs = LiveInputs.of(now, seen);
            long start = System.nanoTime();
            List<FloatTensor> given = engine.run(inputs);
            long ms = (System.nanoTime() - start) / 1_000_000;
            show(now, Shown.of(now.outputs(given), Preprocess.gain(seen.mean()), sureOnly), ms);
        } catch (IOException | RuntimeException error) {
            network = null;
            say(getString(R.string.failed, error.getMessage()));
        } finally {
            busy.set(false);
        }
    }

    private void show(Network now, Shown shown, long ms) {
        if (shown.argb() != null) {
            show(R.id.depth,
                    Bitmap.createBitmap(shown.argb(), shown.width(), shown.height(), Bitmap.Config.ARGB_8888));
        }
        if (shown.sharp() != null && sharpened) {
            show(R.id.picture,
                    Bitmap.createBitmap(shown.sharp(), shown.width(), shown.height(), Bitmap.Config.ARGB_8888));
        }
        String line = getString(R.string.running, now.recipe(), ms, shown.said(), String.join(" ", engine.backends()));
        say(LiveInputs.repeatsHalves(now) ? line + "\n" + getString(R.string.no_halves) : line);
    }

    /** The buttons of what this network gives. */
    private void showControls(Network next) {
        boolean sure = next.gives(Outputs.CONFIDENCE);
        boolean sharp = givesSharp(next);
        runOnUiThread(() -> {
            findViewById(R.id.sure).setVisibility(sure ? View.VISIBLE : View.GONE);
            findViewById(R.id.sharpen).setVisibility(sharp ? View.VISIBLE : View.GONE);
        });
    }

    private static boolean givesSharp(Network network) {
        return network.gives(Outputs.SHARP);
    }

    private void show(int id, Bitmap bitmap) {
        runOnUiThread(() -> ((ImageView) findViewById(id)).setImageBitmap(bitmap));
    }

    private static Plane plane(Image.Plane plane) {
        return new Plane(plane.getBuffer(), plane.getRowStride(), plane.getPixelStride());
    }
}
