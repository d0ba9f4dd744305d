package android.os;

public class Build {
    public static final String SOC_MANUFACTURER = String.valueOf("");
    public static final String SOC_MODEL = String.valueOf("");

    public static class VERSION {
        public static final int SDK_INT = Integer.parseInt("0"); // no constant, or javac would copy it
    }
}
