package org.dualpix.demo.desktop;

import java.awt.image.BufferedImage;
import java.io.File;
import java.io.IOException;
import javax.imageio.ImageIO;
import org.dualpix.demo.core.Folders;

/** What a phone's screen shows, as files. */
final class Pictures {
    private Pictures() {}

    /** Colours laid over a picture, as the screen does. */
    static int[] over(int[] under, int[] argb) {
        int[] out = new int[under.length];
        for (int i = 0; i < out.length; i++) {
            int alpha = argb[i] >>> 24;
            int colour = 0xff;
            for (int shift = 16; shift >= 0; shift -= 8) {
                int mixed = (alpha * (argb[i] >> shift & 0xff) + (255 - alpha) * (under[i] >> shift & 0xff)) / 255;
                colour = colour << 8 | mixed;
            }
            out[i] = colour;
        }
        return out;
    }

    static void write(File file, int[] argb, int width, int height) throws IOException {
        BufferedImage image = new BufferedImage(width, height, BufferedImage.TYPE_INT_ARGB);
        image.setRGB(0, 0, width, height, argb, 0, width);
        Folders.write(file, out -> ImageIO.write(image, "png", out));
    }
}
