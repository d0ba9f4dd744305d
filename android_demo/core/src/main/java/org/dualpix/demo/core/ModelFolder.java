package org.dualpix.demo.core;

import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/** The networks of a folder that {@code dualpix export} wrote, from its {@code manifest.json}. */
public final class ModelFolder {
    private static final int MAX_BYTES = 8 << 20;
    private static final String SUFFIX = ".pte";

    /**
     * A network that can be run here.
     *
     * @param inputs name and shape of each, in order
     */
    public record Network(String recipe, File file, String sha256, List<Input> inputs) {}

    /** An input of a network. */
    public record Input(String name, long[] shape) {}

    private ModelFolder() {}

    /**
     * The networks for ExecuTorch in {@code folder}.
     *
     * @throws IOException there is no manifest that can be read
     * @throws ProtocolException it is none
     */
    public static List<Network> read(File folder) throws IOException {
        Fields manifest = Fields.parse(Folders.read(new File(folder, "manifest.json"), MAX_BYTES), "manifest.json");
        List<Input> inputs = new ArrayList<>();
        for (Fields tensor : manifest.object("input").objects("tensors", 1, 16)) {
            long[] shape = tensor.wholes("shape", 1, 8, 1, 1 << 20).stream().mapToLong(Long::longValue).toArray();
            FloatTensor.count(shape);
            inputs.add(new Input(tensor.text("name"), shape));
        }
        List<Network> out = new ArrayList<>();
        for (Fields entry : manifest.objects("artefacts", 0, 100)) {
            String name = entry.text("file");
            if (name.endsWith(SUFFIX)) {
                File file = Folders.child(folder, name);
                if (file.isFile()) {
                    out.add(new Network(entry.text("recipe"), file, entry.text("sha256"), inputs));
                }
            }
        }
        return out;
    }
}
