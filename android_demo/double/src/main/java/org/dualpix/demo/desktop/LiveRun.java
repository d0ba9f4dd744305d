package org.dualpix.demo.desktop;

import java.awt.image.BufferedImage;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import javax.imageio.ImageIO;
import org.dualpix.demo.core.AppFiles;
import org.dualpix.demo.core.FloatTensor;
import org.dualpix.demo.core.Folders;
import org.dualpix.demo.core.InferenceEngine;
import org.dualpix.demo.core.Json;
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
 * The live view on one picture: what {@code MainActivity} does with an image of the camera, for each network.
 *
 * <p>{@code FILES/live/NAME/picture.png} is what the camera sees. Beside it come {@code live.json}, a list of {recipe,
 * said, error, outputs: [{name, file, shape, unit}]}, with raw float32 files, and as pictures {@code RECIPE.png}, the
 * overlay, and {@code RECIPE-sharp.png}.
 */
final class LiveRun {
    private static final String LIVE = "live";
    private static final String PICTURE = "picture.png";

    private final File folder;
    private final InferenceEngine engine;
    private final boolean sureOnly;

    LiveRun(File files, String name, InferenceEngine engine, boolean sureOnly) {
        folder = Folders.child(new File(files, LIVE), name);
        this.engine = engine;
        this.sureOnly = sureOnly;
    }

    /** Whether every network could be run. */
    boolean run(File files) throws IOException {
        BufferedImage image = ImageIO.read(new File(folder, PICTURE));
        List<Object> results = new ArrayList<>();
        boolean fine = true;
        for (Network network : ModelFolder.read(AppFiles.models(files))) {
            Map<String, Object> result = Json.object("recipe", network.recipe(), "said", null, "error", null);
            try {
                LiveInputs.check(network);
                engine.load(network.checkedFile(), 1);
                look(network, image, result);
            } catch (IOException | ProtocolException error) {
                result.put("error", error.getMessage());
                fine = false;
            }
            results.add(result);
        }
        Folders.write(new File(folder, LIVE + ".json"), Json.write(results));
        return fine;
    }

    private void look(Network network, BufferedImage image, Map<String, Object> result) throws IOException {
        int width = network.picture().width();
        int height = network.picture().height();
        Region part = Region.centred(image.getWidth(), image.getHeight(), width, height);
        Picture seen = Preprocess.fromRgb(plane(image), part, width, height);
        Outputs outputs = network.outputs(engine.run(LiveInputs.of(network, seen)));
        Shown shown = Shown.of(outputs, Preprocess.gain(seen.mean()), sureOnly);
        result.put("said", shown.said());
        result.put("outputs", outputs.write(folder, network.recipe() + "."));
        int[] under = argb(seen);
        if (shown.argb() != null) {
            Pictures.write(new File(folder, network.recipe() + ".png"),
                    Pictures.over(under, shown.argb()), shown.width(), shown.height());
        }
        if (shown.sharp() != null) {
            Pictures.write(new File(folder, network.recipe() + "-sharp.png"), shown.sharp(), shown.width(),
                    shown.height());
        }
    }

    private static int[] argb(Picture seen) {
        FloatTensor encoded = Preprocess.imageInput(seen, 3);
        return Preprocess.argbOfEncoded(encoded.values(), Preprocess.gain(seen.mean()));
    }

    private static Plane plane(BufferedImage image) {
        ByteBuffer bytes = ByteBuffer.allocate(3 * image.getWidth() * image.getHeight()).order(ByteOrder.BIG_ENDIAN);
        for (int y = 0; y < image.getHeight(); y++) {
            for (int x = 0; x < image.getWidth(); x++) {
                int rgb = image.getRGB(x, y);
                bytes.put((byte) (rgb >> 16)).put((byte) (rgb >> 8)).put((byte) rgb);
            }
        }
        return new Plane(bytes, 3 * image.getWidth(), 3);
    }
}
