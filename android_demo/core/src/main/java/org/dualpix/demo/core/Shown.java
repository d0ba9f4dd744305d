package org.dualpix.demo.core;

import java.util.Locale;

/**
 * What the screen shows of a run of a network.
 *
 * @param form the output that is shown; null where the network gives no map
 * @param argb its colours; null likewise
 * @param sharp ARGB of the picture in focus everywhere, of the same size; null where the network gives none
 * @param sureShare share of its pixels that are sure; null where the network does not say
 */
public record Shown(
        TensorForm form, int width, int height, int[] argb, int[] sharp, Overlay.Scale scale, Overlay.Range range,
        Double sureShare) {
    private static final double LEAST_LIMIT_PX = 0.5;

    /**
     * Of checked outputs.
     *
     * @param gain of the picture that the network was given, by which a sharp picture is encoded
     * @param sureOnly whether what is not sure stays clear, instead of fading
     * @throws ProtocolException there is neither a map nor a picture to show
     */
    public static Shown of(Outputs outputs, double gain, boolean sureOnly) {
        TensorForm form = outputs.shown();
        TensorForm picture = outputs.sharpForm();
        if (form == null && picture == null) {
            throw new ProtocolException("the network gives " + Network.saidOf(outputs.forms()),
                    "a map (1, 1, H, W), or 'sharp' (1, 3, H, W)");
        }
        int[] sharp = picture == null ? null : Preprocess.argbOfEncoded(outputs.named(Outputs.SHARP).values(), gain);
        if (form == null) {
            return new Shown(null, picture.width(), picture.height(), null, sharp, null, null, null);
        }
        float[] values = outputs.named(form.name()).values();
        float[] confidence = outputs.confidence();
        Overlay.Scale scale = Overlay.scaleOf(form);
        Overlay.Range range = Overlay.range(values, confidence, scale, LEAST_LIMIT_PX);
        int[] argb = Overlay.colours(values, confidence, sureOnly, scale, range);
        return new Shown(
                form, form.width(), form.height(), argb, sharp, scale, range, Overlay.sureShare(confidence));
    }

    /** What was found, for people: {@code disparity_px +-3.2 px, 63 % sure}. */
    public String said() {
        return said(true);
    }

    /** The same; where the phone's focus is worth no metres, what is in m loses its unit. */
    public String said(boolean metric) {
        if (form == null) {
            return Outputs.SHARP;
        }
        String unit = !metric && form.unit().equals("m") ? "(no metres)" : form.unit();
        String sure = sureShare == null ? "" : String.format(Locale.ROOT, ", %.0f %% sure", 100 * sureShare);
        return form.name() + " " + Overlay.said(range, scale, unit) + sure;
    }
}
