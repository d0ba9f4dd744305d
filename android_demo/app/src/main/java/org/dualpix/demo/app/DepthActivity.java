package org.dualpix.demo.app;

import android.graphics.Bitmap;
import android.os.Bundle;
import android.view.View;
import android.widget.ImageView;
import android.widget.ToggleButton;
import java.io.File;
import java.io.IOException;
import org.dualpix.demo.core.AppFiles;
import org.dualpix.demo.core.CameraFault;
import org.dualpix.demo.core.CameraPort;
import org.dualpix.demo.core.CaptureSession;
import org.dualpix.demo.core.Messages;
import org.dualpix.demo.core.Network;
import org.dualpix.demo.core.Shown;
import org.dualpix.demo.core.StackDepth;

/**
 * Depth of a focus stack: takes as many frames as the network of {@code models/} wants, and shows what it makes of
 * them.
 *
 * <p>By its own button, or as the host names a session: with a plan, which is taken first, or with frames that are
 * there. {@link StackDepth} does the work; everything stays in the session's folder.
 */
public final class DepthActivity extends StackScreen {
    private static final int THREADS = 4;

    private StackDepth.Found found;
    private boolean sureOnly;

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        setContentView(R.layout.depth);
        ((ToggleButton) findViewById(R.id.sure)).setOnCheckedChangeListener((button, on) -> {
            sureOnly = on;
            show();
        });
        ((ToggleButton) findViewById(R.id.overlay)).setOnCheckedChangeListener((button, on) ->
                findViewById(R.id.depth).setVisibility(on ? View.VISIBLE : View.INVISIBLE));
        listen(state);
    }

    @Override
    String prefix() {
        return "depth-";
    }

    @Override
    Messages.Plan ownPlan(String name, CameraPort port) throws IOException, CameraFault {
        Network network = StackDepth.network(AppFiles.models(files()), null);
        return StackDepth.plan(name, network, nearestD(), port.describe(null).minFocusD());
    }

    @Override
    void start(File folder) {
        cancel();
        CaptureSession next = StackDepth.isTaken(folder) ? null : taking(folder);
        work.execute(() -> {
            try (Engine engine = new Engine(getString(R.string.executorch))) {
                if (next != null && next.run() != Messages.EndReason.COMPLETE) {
                    return; // the journal's last lines, which are shown, say why
                }
                say(getString(R.string.depth_wait));
                File models = AppFiles.models(files());
                StackDepth.Found made = StackDepth.run(folder, models, engine, version(), THREADS);
                runOnUiThread(() -> {
                    found = made;
                    show();
                });
            } catch (IOException | RuntimeException | LinkageError error) {
                say(getString(R.string.failed, error.getMessage()));
            }
        });
    }

    private void show() {
        if (found == null) {
            return;
        }
        Shown shown = found.shown(sureOnly);
        findViewById(R.id.sure).setVisibility(shown.sureShare() == null ? View.GONE : View.VISIBLE);
        set(R.id.picture, found.picture(), found.light().width(), found.light().height());
        if (shown.argb() != null) {
            set(R.id.depth, shown.argb(), shown.width(), shown.height());
        }
        StringBuilder text = new StringBuilder(
                getString(R.string.depth_found, found.network().recipe(), found.runS(), shown.said(found.metric())));
        found.notes().forEach(note -> text.append('\n').append(note));
        say(text.toString());
    }

    private void set(int id, int[] argb, int width, int height) {
        ((ImageView) findViewById(id)).setImageBitmap(
                Bitmap.createBitmap(argb, width, height, Bitmap.Config.ARGB_8888));
    }
}
