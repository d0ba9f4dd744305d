package org.dualpix.demo.core;

import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/** The networks of a folder that {@code dualpix export} wrote, from its {@code manifest.json}. */
public final class ModelFolder {
    private static final int FORMAT = 3;
    private static final int MAX_BYTES = 8 << 20;
    private static final int MOST_TENSORS = 16;
    private static final String MANIFEST = "manifest.json";
    private static final String SUFFIX = ".pte";
    private static final String INT8 = "int8";

    private ModelFolder() {}

    /**
     * The networks for ExecuTorch in {@code folder} whose files are there.
     *
     * @throws IOException there is no manifest that can be read
     * @throws ProtocolException it is none, is of another format, or names tensors that the app cannot make or take
     */
    public static List<Network> read(File folder) throws IOException {
        Fields manifest = Fields.parse(Folders.read(new File(folder, MANIFEST), MAX_BYTES), MANIFEST);
        int format = manifest.count("format", 0, 1_000_000);
        if (format != FORMAT) {
            throw new ProtocolException(MANIFEST + " is of format " + format,
                    "format " + FORMAT + ": export again with the dualpix that this app belongs to");
        }
        Fields model = manifest.object("model");
        String task = model.optional("task", model::text);
        List<TensorForm> inputs = forms(manifest.object("input").objects("tensors", 1, MOST_TENSORS));
        List<TensorForm> outputs = forms(manifest.objects("outputs", 1, MOST_TENSORS));
        List<Network> out = new ArrayList<>();
        for (Fields entry : manifest.objects("artefacts", 0, 100)) {
            String name = entry.text("file");
            if (name.endsWith(SUFFIX)) {
                File file = Folders.child(folder, name);
                if (file.isFile()) {
                    out.add(new Network(task == null ? "" : task, entry.text("recipe"), file, entry.text("sha256"),
                            inputs, outputs));
                }
            }
        }
        return out;
    }

    /**
     * Which of them a live picture starts with: the first whose activations are int8, else the first. An export has its
     * float program before, which takes two to three times as long.
     */
    public static int quickest(List<Network> networks) {
        for (int index = 0; index < networks.size(); index++) {
            if (networks.get(index).recipe().contains(INT8)) {
                return index;
            }
        }
        return 0;
    }

    private static List<TensorForm> forms(List<Fields> entries) {
        List<TensorForm> out = new ArrayList<>();
        Set<String> names = new HashSet<>();
        for (Fields entry : entries) {
            TensorForm form = TensorForm.parse(entry);
            if (!names.add(form.name())) {
                throw entry.error("name", "another name than those before");
            }
            out.add(form);
        }
        return out;
    }
}
