package org.dualpix.demo.app;

import android.Manifest;
import android.app.Activity;
import android.content.pm.PackageManager;
import android.os.Bundle;
import android.view.WindowManager;
import android.widget.TextView;
import java.io.File;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.dualpix.demo.core.ProtocolException;

/** What the activities share: the app's folder, a thread for the work, a line of text, the camera's permission. */
abstract class Screen extends Activity {
    private static final int ASK_CAMERA = 1;

    /** For one thing after the other. */
    final ExecutorService work = Executors.newSingleThreadExecutor();

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        getWindow().addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON);
    }

    @Override
    protected void onDestroy() {
        work.shutdown();
        super.onDestroy();
    }

    /** The folder that the host reaches too; {@link ProtocolException} while the storage is not there. */
    final File files() {
        File folder = getExternalFilesDir(null);
        if (folder == null) {
            throw new ProtocolException("the storage of this phone is not there");
        }
        return folder;
    }

    /** The version of the app. */
    final String version() {
        try {
            return getPackageManager().getPackageInfo(getPackageName(), 0).versionName;
        } catch (PackageManager.NameNotFoundException error) {
            throw new IllegalStateException("every app knows itself", error);
        }
    }

    /** Shows a text, from any thread. */
    final void say(String text) {
        runOnUiThread(() -> ((TextView) findViewById(R.id.said)).setText(text));
    }

    /** Whether the camera may be used; if not, the user is asked, and {@link #allowed} follows. */
    final boolean mayUseCamera() {
        if (checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED) {
            return true;
        }
        requestPermissions(new String[] {Manifest.permission.CAMERA}, ASK_CAMERA);
        return false;
    }

    /** The user has allowed the camera. */
    void allowed() {}

    @Override
    public void onRequestPermissionsResult(int request, String[] permissions, int[] results) {
        if (results.length > 0 && results[0] == PackageManager.PERMISSION_GRANTED) {
            allowed();
        } else {
            say(getString(R.string.no_camera_permission));
        }
    }
}
