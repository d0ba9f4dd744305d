package org.dualpix.demo.app;

import android.os.Bundle;
import java.io.File;
import java.io.IOException;
import org.dualpix.demo.core.CameraFault;
import org.dualpix.demo.core.CameraPort;
import org.dualpix.demo.core.CaptureSession;
import org.dualpix.demo.core.FocusPlan;
import org.dualpix.demo.core.Messages.Plan;

/** Takes focus stacks: the host's, which names a session that it wrote a plan for, or those of its own buttons. */
public final class CaptureActivity extends StackScreen {
    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        setContentView(R.layout.capture);
        findViewById(R.id.stop).setOnClickListener(view -> cancel());
        listen(state);
    }

    @Override
    String prefix() {
        return "own-";
    }

    @Override
    Plan ownPlan(String name, CameraPort port) throws CameraFault {
        int frames = Integer.parseInt(text(R.id.frames));
        double nearestD = nearestD();
        double most = port.describe(null).minFocusD();
        return FocusPlan.plan(name, FocusPlan.evenDiopters(0, nearestD > 0 ? nearestD : most, frames), null, 0);
    }

    @Override
    void start(File folder) {
        cancel();
        CaptureSession next = taking(folder);
        work.execute(() -> {
            try {
                next.run();
            } catch (IOException | RuntimeException error) {
                say(getString(R.string.failed, error.getMessage()));
            }
        });
    }
}
